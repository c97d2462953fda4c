import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { snippetsOf } from '../fixtures/snippets.ts'
import { goTool, needed, pythonTool } from './tools.ts'

const root = join(import.meta.dirname, '../..')
const folder = mkdtempSync(join(tmpdir(), 'xqueue-lint-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** The output of a checker, and whether it passed. */
function check(command: string, ...args: string[]): { status: number | null; said: string } {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: 'utf8' })
  return { status, said: `${stdout}${stderr}`.trim() }
}

it('hadolint reports nothing about the Dockerfile, that of new projects, and the one for Kubernetes', () => {
  const hadolint = pythonTool('hadolint')
  const shown = snippetsOf('docs/how-to/deploy-on-kubernetes.md').find(({ name }) => name === 'Dockerfile.handlers')!
  writeFileSync(join(folder, 'Dockerfile.handlers'), shown.code)
  const files = ['deploy/Dockerfile', 'starter/Dockerfile', join(folder, 'Dockerfile.handlers')]
  expect(check(hadolint, ...files)).toEqual({ status: 0, said: '' })
  writeFileSync(join(folder, 'Dockerfile'), 'FROM node:latest\n')
  expect(check(hadolint, join(folder, 'Dockerfile')).said).toContain('DL3007')
})

it('the compose files follow the Compose Specification', () => {
  const checker = pythonTool('check-jsonschema')
  const schema = ['--builtin-schema', 'vendor.compose-spec']
  const files = globSync('deploy/compose/*.yaml', { cwd: root })
  expect(files).toHaveLength(3)
  expect(check(checker, ...schema, ...files).status).toBe(0)
  const bad = join(folder, 'compose.yaml')
  writeFileSync(bad, readFileSync(join(root, files[0]!), 'utf8').replace('restart:', 'restrat:'))
  expect(check(checker, ...schema, bad).said).toContain('restrat')
})

it('the alert rules pass their unit tests', () => {
  const promtool = goTool('promtool')
  expect(check(promtool, 'check', 'rules', '--lint-fatal', 'deploy/observability/alerts.yaml').status).toBe(0)
  expect(check(promtool, 'test', 'rules', 'test/deploy/alerts.promtool.yaml').said).toContain('SUCCESS')
  expect(check(promtool, 'check', 'config', '--syntax-only', 'deploy/observability/prometheus.yaml').status).toBe(0)
})

it('systemd accepts the unit without a warning, and rates its exposure as low', () => {
  needed('systemd-analyze', 'the unit of systemd', 'apt-get install systemd')
  const unit = join(folder, 'etc/systemd/system')
  for (const path of [unit, join(folder, 'usr/local/bin'), join(folder, 'usr/lib/sysusers.d')]) {
    mkdirSync(path, { recursive: true })
  }
  cpSync(join(root, 'deploy/systemd/xqueue.service'), join(unit, 'xqueue.service'))
  cpSync(join(root, 'deploy/systemd/xqueue.sysusers.conf'), join(folder, 'usr/lib/sysusers.d/xqueue.conf'))
  execFileSync('cp', ['-r', '/lib/systemd', join(folder, 'usr/lib/')])
  execFileSync('ln', ['-s', 'usr/lib', join(folder, 'lib')])
  writeFileSync(join(folder, 'usr/local/bin/xqueue'), '#!/bin/sh\n', { mode: 0o755 })
  expect(check('systemd-analyze', 'verify', `--root=${folder}`, 'xqueue.service')).toEqual({ status: 0, said: '' })
  const limit = ['--threshold=15', '--offline=true', `--root=${folder}`]
  expect(check('systemd-analyze', 'security', ...limit, 'xqueue.service').status).toBe(0)
  mkdirSync(join(folder, 'etc'), { recursive: true })
  expect(check('systemd-sysusers', `--root=${folder}`, 'xqueue.conf').status).toBe(0)
  expect(readFileSync(join(folder, 'etc/passwd'), 'utf8')).toMatch(/^xqueue:.*nologin$/m)
})
