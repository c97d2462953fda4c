import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Ajv } from 'ajv'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { snippetsOf } from '../fixtures/snippets.ts'
import { goModule, goTool, pythonTool } from './tools.ts'

const chart = join(import.meta.dirname, '../../deploy/helm/xqueue')
const folder = mkdtempSync(join(tmpdir(), 'xqueue-chart-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** The oldest version that the chart supports, and the newest with schemas. */
const KUBERNETES = ['1.27', '1.37']

const REDIS = ['engine.existingSecret=redis']
const EVERYTHING = [
  ...REDIS,
  'mqtt.url=mqtts://broker',
  'access.auth=keys+jwt',
  'access.jwt.jwks=https://login.example/jwks',
  'access.jwt.issuer=https://login.example',
  'access.jwt.audience=xqueue',
  'handlers=/app/my/handlers.ts',
  'env.TZ=UTC',
  'envFromSecrets={smtp}',
  'secretFiles.XQUEUE_HTTP_SECRET.secret=webhooks',
  'secretFiles.XQUEUE_HTTP_SECRET.key=signing',
  `image.digest=sha256:${'a'.repeat(64)}`,
  'networkPolicy.clients[0].podSelector.matchLabels.app=shop',
  'autoscaling.kind=keda',
  'autoscaling.keda.keySecret=reader',
  'ingress.enabled=true',
  'ingress.className=nginx',
  'ingress.hosts={queue.example}',
  'podMonitor.enabled=true',
  'podMonitor.keySecret=reader',
  'imagePullSecrets[0].name=registry',
  'nodeSelector.disk=ssd',
]

let helm: string
beforeAll(() => {
  helm = goTool('helm')
})

// biome-ignore lint/suspicious/noExplicitAny: objects of Kubernetes, compared field by field
type Resource = any

function render(values: string[], kubernetes = KUBERNETES[1]!): Resource[] {
  const args = ['template', 'main', chart, '--namespace', 'queue', '--kube-version', `${kubernetes}.0`]
  const text = execFileSync(helm, [...args, ...values.flatMap((value) => ['--set', value])], { encoding: 'utf8' })
  return parseAllDocuments(text).map((document) => document.toJS())
}

function refusal(...values: string[]): string {
  const args = ['template', 'main', chart, '--kube-version', '1.37.0', ...values.flatMap((value) => ['--set', value])]
  const { status, stderr } = spawnSync(helm, args, { encoding: 'utf8' })
  expect(status).not.toBe(0)
  return stderr
}

const one = (resources: Resource[], kind: string, name = '') =>
  resources.find((resource) => resource.kind === kind && resource.metadata.name.endsWith(name))

it('renders the values of the how-to page, with the handlers in both deployments', () => {
  const { code } = snippetsOf('docs/how-to/deploy-on-kubernetes.md').find(({ name }) => name === 'values.yaml')!
  const values = join(folder, 'how-to.yaml')
  writeFileSync(values, code)
  const args = ['template', 'queue', chart, '--namespace', 'queue', '--kube-version', '1.37.0', '--values', values]
  const text = execFileSync(helm, args, { encoding: 'utf8' })
  const resources: Resource[] = parseAllDocuments(text).map((document) => document.toJS())
  for (const name of ['queue-xqueue-server', 'queue-xqueue-worker']) {
    const [container] = one(resources, 'Deployment', name).spec.template.spec.containers
    expect(container.image).toBe('registry.example/queue:1')
    expect(container.env).toContainEqual({ name: 'XQUEUE_HANDLERS', value: '/app/handlers/handlers.ts' })
  }
  expect(one(resources, 'Service').metadata.name).toBe('queue-xqueue')
  expect(one(resources, 'Ingress').spec.rules[0].host).toBe('queue.example')
})

it('passes the linter', () => {
  const { status, stdout } = spawnSync(helm, ['lint', '--strict', '--kube-version', '1.37.0', chart], {
    encoding: 'utf8',
  })
  expect(stdout).not.toMatch(/\[(ERROR|WARNING)\]/)
  expect(status).toBe(0)
})

it.each([
  ['SQLite', []],
  ['Redis', REDIS],
  ['Redis with an HPA', [...REDIS, 'autoscaling.kind=hpa']],
  ['everything', EVERYTHING],
])('renders valid Kubernetes objects: %s', (_name, values) => {
  for (const kubernetes of KUBERNETES) {
    const file = join(folder, 'rendered.yaml')
    const own = render(values, kubernetes).filter(({ apiVersion }) => !/keda|coreos/.test(apiVersion))
    writeFileSync(file, own.map((resource) => JSON.stringify(resource)).join('\n---\n'))
    const args = ['--strict', '--kubernetes-version', kubernetes, file]
    const { status, stdout, stderr } = spawnSync(pythonTool('kubernetes-validate'), args, { encoding: 'utf8' })
    const said = `${stdout}${stderr}`
    expect(said).not.toMatch(/WARN|ERROR/)
    expect(said.match(/passed for resource/g)).toHaveLength(own.length)
    expect(status).toBe(0)
  }
})

it('renders valid objects of KEDA and of the Prometheus operator', () => {
  const definitions = [
    [goModule('keda'), 'config/crd/bases/keda.sh_scaledobjects.yaml'],
    [goModule('keda'), 'config/crd/bases/keda.sh_triggerauthentications.yaml'],
    [goModule('prometheus-operator'), 'example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml'],
  ] as const
  const resources = render(EVERYTHING)
  for (const [module, file] of definitions) {
    const { spec } = parse(readFileSync(join(module, file), 'utf8')) as Resource
    const resource = one(resources, spec.names.kind)
    const version = spec.versions.find(({ name }: { name: string }) => resource.apiVersion === `${spec.group}/${name}`)
    const validate = new Ajv({ strict: false, validateFormats: false }).compile(closed(version.schema.openAPIV3Schema))
    validate(resource)
    expect([spec.names.kind, validate.errors]).toEqual([spec.names.kind, null])
    expect(validate({ ...resource, spec: { ...resource.spec, misspelled: 1 } })).toBe(false)
  }
})

/** Kubernetes drops fields that a definition does not have; here they are mistakes. */
function closed(schema: Resource): Resource {
  if (Array.isArray(schema)) return schema.map(closed)
  if (typeof schema !== 'object' || schema === null) return schema
  const inner = Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, closed(value)]))
  const isOpen = !schema.properties || schema.additionalProperties || schema['x-kubernetes-preserve-unknown-fields']
  return isOpen || typeof schema.type !== 'string' ? inner : { ...inner, additionalProperties: false }
}

it('runs server and worker in one pod if the store is a file', () => {
  const resources = render([])
  const { spec } = one(resources, 'Deployment')
  expect(resources.filter(({ kind }) => kind === 'Deployment')).toHaveLength(1)
  expect(spec).toMatchObject({ replicas: 1, strategy: { type: 'Recreate' } })
  expect(spec.template.spec.containers[0].args).toEqual(['serve'])
  expect(one(resources, 'PersistentVolumeClaim')).toBeDefined()
  expect(one(resources, 'PodDisruptionBudget')).toBeUndefined()
})

it('sends calls to servers only, and lets pods of both start, stop and be evicted one by one', () => {
  const resources = render(REDIS)
  const [server, worker] = ['-server', '-worker'].map((name) => one(resources, 'Deployment', name))
  expect(server.spec.template.spec.containers[0].args).toEqual(['serve', '--no-worker'])
  expect(worker.spec.template.spec.containers[0].args).toEqual(['serve'])
  const { selector } = one(resources, 'Service').spec
  expect(server.spec.template.metadata.labels).toMatchObject(selector)
  expect(worker.spec.template.metadata.labels).not.toMatchObject(selector)
  for (const { spec } of [server, worker]) {
    expect(spec.template.metadata.labels).toMatchObject(spec.selector.matchLabels)
    expect(spec.template.spec.terminationGracePeriodSeconds).toBeGreaterThan(30)
    expect(spec.template.spec.securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 1000 })
    expect(spec.template.spec.containers[0]).toMatchObject({
      livenessProbe: { httpGet: { path: '/api/v1/live' } },
      readinessProbe: { httpGet: { path: '/api/v1/health' } },
      securityContext: { readOnlyRootFilesystem: true, allowPrivilegeEscalation: false },
    })
  }
  const variables = (deployment: Resource) =>
    deployment.spec.template.spec.containers[0].env.map(({ name }: { name: string }) => name)
  expect(variables(worker)).toContain('XQUEUE_MQTT') // Off: no client can reach a broker embedded in a worker.
  expect(variables(server)).not.toContain('XQUEUE_MQTT')
  expect(new Set(variables(server)).size).toBe(variables(server).length)
  expect(resources.filter(({ kind }) => kind === 'PodDisruptionBudget')).toHaveLength(2)
})

it('lets the autoscaler set the number of workers', () => {
  for (const [kind, resource] of [
    ['hpa', 'HorizontalPodAutoscaler'],
    ['keda', 'ScaledObject'],
  ] as const) {
    const resources = render([...REDIS, `autoscaling.kind=${kind}`, 'autoscaling.keda.keySecret=reader'])
    const scaled = one(resources, 'Deployment', '-worker')
    expect(scaled.spec.replicas).toBeUndefined()
    expect(one(resources, resource).spec.scaleTargetRef.name).toBe(scaled.metadata.name)
  }
  const [trigger] = one(render(EVERYTHING), 'ScaledObject').spec.triggers
  expect(trigger).toMatchObject({
    type: 'metrics-api',
    metadata: { valueLocation: 'runnable_tasks', authMode: 'bearer' },
  })
  expect(trigger.metadata.url).toBe('http://main-xqueue.queue.svc:80/api/v1/stats')
})

it('opens to other pods only the ports that they need', () => {
  const policies = render(REDIS).filter(({ kind }) => kind === 'NetworkPolicy')
  const ports = (policy: Resource) =>
    policy.spec.ingress.map((rule: Resource) => [rule.ports.map(({ port }: Resource) => port), rule.from !== undefined])
  expect(ports(one(policies, 'NetworkPolicy', '-server'))).toEqual([[['http', 'mqtt'], false]])
  expect(ports(one(policies, 'NetworkPolicy', '-worker'))).toEqual([[['http'], true]])
  const [server, worker] = ['-server', '-worker'].map((name) => one(render(EVERYTHING), 'NetworkPolicy', name))
  expect(ports(server)).toEqual([
    [['http', 'mqtt'], true],
    [['http'], true],
  ])
  for (const [name, policy] of Object.entries({ server, worker })) {
    const { labels } = one(render(EVERYTHING), 'Deployment', `-${name}`).spec.template.metadata
    expect(labels).toMatchObject(policy.spec.podSelector.matchLabels)
  }
  expect(render([]).filter(({ kind }) => kind === 'NetworkPolicy')).toHaveLength(1)
  expect(render(['networkPolicy.enabled=false']).some(({ kind }) => kind === 'NetworkPolicy')).toBe(false)
})

it('mounts secrets as files, and pins the image by its digest', () => {
  const { spec } = one(render(EVERYTHING), 'Deployment', '-server').spec.template
  const [container] = spec.containers
  expect(container.image).toBe(`xqueue@sha256:${'a'.repeat(64)}`)
  const variable = container.env.find(({ name }: Resource) => name === 'XQUEUE_HTTP_SECRET_FILE')
  const mount = container.volumeMounts.find(({ name }: Resource) => name === 'secrets')
  const volume = spec.volumes.find(({ name }: Resource) => name === 'secrets')
  expect(volume.projected.sources).toEqual([
    { secret: { name: 'webhooks', items: [{ key: 'signing', path: 'XQUEUE_HTTP_SECRET' }] } },
  ])
  expect(variable.value).toBe(`${mount.mountPath}/XQUEUE_HTTP_SECRET`)
})

it('refuses values that cannot work, and says how to fix them', () => {
  expect(refusal('access.auth=off')).toContain('set access.auth to keys')
  expect(refusal('access.auth=jwt')).toContain('access.jwt.jwks')
  expect(refusal('autoscaling.kind=hpa')).toContain('set engine.url')
  expect(refusal(...REDIS, 'autoscaling.kind=keda')).toContain('autoscaling.keda.keySecret')
  expect(refusal('podMonitor.enabled=true')).toContain('podMonitor.keySecret')
  expect(refusal('ingress.enabled=true')).toContain('ingress.hosts')
  expect(refusal('engine.url=postgres://x')).toContain('engine')
  expect(refusal('worker.replica=3')).toContain('replica')
  expect(refusal(...REDIS, 'autoscaling.kind=hpa', 'autoscaling.minReplicas=0')).toContain('minReplicas')
})
