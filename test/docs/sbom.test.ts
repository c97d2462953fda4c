import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, it } from 'vitest'
import { root } from '../fixtures/root.ts'

interface Locked {
  version: string
  dev?: boolean
}

it('npm run sbom lists every package that XQueue installs, and no development dependencies', () => {
  const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}` }
  const bom = JSON.parse(execFileSync('npm', ['run', '-s', 'sbom'], { cwd: root, env, encoding: 'utf8' }))
  expect(bom).toMatchObject({
    bomFormat: 'CycloneDX',
    metadata: { component: { purl: expect.stringMatching(/^pkg:npm\/xqueue@/) } },
  })
  const listed = bom.components.map(({ purl }: { purl: string }) => decodeURIComponent(purl)).sort()
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))
  const installed = Object.entries<Locked>(packages)
    .filter(([place, { dev }]) => place !== '' && !dev)
    .map(([place, { version }]) => `pkg:npm/${place.split('node_modules/').at(-1)}@${version}`)
  expect(new Set(listed)).toEqual(new Set(installed))
  const declared = Object.keys(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).dependencies)
  for (const name of declared) expect(listed.join('\n')).toContain(`pkg:npm/${name}@`)
})
