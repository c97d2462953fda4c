import { execFileSync } from 'node:child_process'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { parse } from 'yaml'
import { variableOf } from '../../src/config/config.ts'
import { readValue, SETTINGS } from '../../src/config/settings.ts'
import { root } from '../fixtures/root.ts'
import { readDockerfile } from './dockerfile.ts'

const read = (file: string) => readFileSync(join(root, file), 'utf8')
const manifest = JSON.parse(read('package.json')) as { version: string }

interface Compose {
  services: Record<string, Service>
  volumes?: Record<string, unknown>
  configs?: Record<string, unknown>
}
interface Service {
  image: string
  build?: { context: string; dockerfile: string }
  command?: string[]
  environment?: Record<string, string | number>
  ports?: string[]
  volumes?: string[]
  configs?: { source: string; target: string }[]
  depends_on?: Record<string, { condition: string }>
  healthcheck?: object
}

const compose = globSync('deploy/compose/*.yaml', { cwd: root }).map((file): [string, Compose] => [
  file,
  parse(read(file), { merge: true }) as Compose,
])
const services = compose.flatMap(([file, { services }]) =>
  Object.entries(services).map(([name, service]) => ({ name: `${file}: ${name}`, file, service })),
)

/** Each setting with a value in a file of deploy/, in any format. */
function settingsGiven(): [where: string, variable: string, value: string][] {
  const composed = services.flatMap(({ name, service }) =>
    Object.entries(service.environment ?? {})
      .filter(([variable]) => variable.startsWith('XQUEUE_'))
      .map(([variable, value]): [string, string, string] => [name, variable, String(value)]),
  )
  const inImage = readDockerfile(join(root, 'deploy/Dockerfile'))
    .flatMap(({ steps }) => steps)
    .flatMap((step) => (step.kind === 'ENV' ? Object.entries(step.values) : []))
    .filter(([variable]) => variable.startsWith('XQUEUE_'))
    .map(([variable, value]): [string, string, string] => ['Dockerfile', variable, value])
  const unit = [...read('deploy/systemd/xqueue.env').matchAll(/^#?(XQUEUE_\w+)=(.*)$/gm)].map(
    ([, variable, value]): [string, string, string] => ['xqueue.env', variable!, value!],
  )
  return [...composed, ...inImage, ...unit]
}

it('sets only existing settings, to valid values', () => {
  const given = settingsGiven()
  expect(given.length).toBeGreaterThan(12)
  const wrong = given.flatMap(([where, variable, value]) => {
    const setting = SETTINGS.find(({ name }) => variableOf(name) === variable)
    if (!setting) return [`${where}: ${variable} is no setting`]
    try {
      readValue(setting, value.replace(/\$\{\w+:\?[^}]*\}/g, 'secret'))
      return []
    } catch (error) {
      return [`${where}: ${variable} ${(error as Error).message}`]
    }
  })
  expect(wrong).toEqual([])
  const inChart = [...read('deploy/helm/xqueue/templates/_pod.tpl').matchAll(/\bXQUEUE_\w+/g)].map(([name]) => name)
  const known = SETTINGS.map(({ name }) => variableOf(name))
  expect(inChart.length).toBeGreaterThan(8)
  expect(inChart.filter((name) => !known.includes(name) && name !== 'XQUEUE_X')).toEqual([])
})

it('serves other machines only with access control', () => {
  const exposed = services.flatMap(({ name, service }) =>
    (service.ports ?? []).filter((port) => !port.startsWith('127.0.0.1:')).map((port) => `${name} publishes ${port}`),
  )
  expect(exposed).toEqual([])
  const own = services.filter(({ service }) => service.image === 'xqueue')
  expect(own.map(({ service }) => service.environment?.XQUEUE_AUTH)).toEqual(own.map(() => 'keys'))
})

it('starts no service with a password from the repository, and no store without one', () => {
  for (const [file, { services, configs = {} }] of compose) {
    const text = read(file)
    expect(text, `${file} has a default for a secret`).not.toMatch(/\$\{\w*(PASSWORD|SECRET|KEY)\w*(:-|-|\})/)
    for (const { image, configs: used = [] } of Object.values(services)) {
      if (!image.startsWith('redis:')) continue
      const written = used.map(({ source }) => (configs[source] as { content: string }).content).join('\n')
      expect(written, `${file}: Redis`).toMatch(/^requirepass \$\{\w+:\?[^}]+\}$/m)
    }
  }
})

it('names existing files, services and volumes, and exact images', () => {
  for (const [file, { services, volumes = {}, configs = {} }] of compose) {
    for (const service of Object.values(services)) {
      if (service.build) {
        const context = join(root, file, '..', service.build.context)
        expect(existsSync(join(context, service.build.dockerfile)), file).toBe(true)
      } else {
        expect(service.image).toMatch(/:\d+\.\d+\.\d+/)
        expect(service.healthcheck, `${file}: ${service.image} is waited for`).toBeDefined()
      }
      expect(Object.keys(services)).toEqual(expect.arrayContaining(Object.keys(service.depends_on ?? {})))
      const named = (service.volumes ?? []).map((volume) => volume.split(':')[0])
      expect(Object.keys(volumes)).toEqual(expect.arrayContaining(named))
      expect(Object.keys(configs)).toEqual(expect.arrayContaining((service.configs ?? []).map(({ source }) => source)))
    }
  }
})

it('starts with the one command that the file documents', () => {
  for (const [file] of compose) expect(read(file)).toContain(`docker compose -f ${file} up --build --wait`)
})

it('has one version everywhere', () => {
  const chart = parse(read('deploy/helm/xqueue/Chart.yaml')) as { version: string; appVersion: string }
  expect([chart.version, chart.appVersion]).toEqual([manifest.version, manifest.version])
  const lock = JSON.parse(read('package-lock.json')) as { packages: Record<string, { version: string }> }
  const stages = readDockerfile(join(root, 'deploy/Dockerfile'))
  expect(stages).toHaveLength(3)
  const tag = `node:${lock.packages['node_modules/node']!.version}-bookworm-slim`
  for (const { base } of stages) expect(base.split('@')[0]).toBe(tag)
})

it('copies existing files into the image, runs as an unprivileged user, and checks its health', () => {
  const tracked = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], { cwd: root, encoding: 'utf8' })
  const files = tracked.trim().split('\n')
  const stages = readDockerfile(join(root, 'deploy/Dockerfile'))
  for (const step of stages.flatMap(({ steps }) => steps)) {
    if (step.kind !== 'COPY' || step.from) continue
    for (const source of step.sources) {
      expect(files.some((file) => file === source || file.startsWith(`${source}/`)) ? '' : source).toBe('')
    }
  }
  const kinds = stages.at(-1)!.steps.map(({ kind }) => kind)
  expect(kinds).toEqual(expect.arrayContaining(['USER', 'HEALTHCHECK', 'ENTRYPOINT', 'CMD', 'VOLUME']))
})

it('pins every image that it does not build itself by its digest', () => {
  const composed = globSync('deploy/compose/*.yaml', { cwd: root }).flatMap((file) =>
    Object.values((parse(read(file), { merge: true }) as Compose).services).map(({ image }) => image),
  )
  const based = [...read('deploy/Dockerfile').matchAll(/^FROM (?:--\S+ )?(\S+)/gm)].map(([, image]) => image!)
  const foreign = [...composed, ...based].filter((image) => image !== 'xqueue')
  expect(foreign.length).toBeGreaterThanOrEqual(7)
  expect(foreign.filter((image) => !/^[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}$/.test(image))).toEqual([])
})
