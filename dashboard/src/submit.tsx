import { useEffect, useState } from 'preact/hooks'
import { call, get, type Refusal, type Schema, type Task } from './api.ts'
import { useLive } from './live.ts'
import { NoTypes, Panel, StatusBadge } from './parts.tsx'
import { type Draft, PayloadEditor, payloadOf, useSchemas } from './payload-editor.tsx'
import { may } from './session.ts'
import { ON_FAILURE, say } from './words.ts'

const OPTIONS = {
  ...{ priority: '', delay: '', max_retry: '', process_timeout: '', group: '', tags: '', idempotency_key: '' },
  ...{ batch: '', after: '', on_failure: '', queue_timeout: '', uses: '' },
}
type Options = typeof OPTIONS

/** A form made of the type's schema of its payload, or a field for JSON; with `copy`, filled with that of a task. */
export function SubmitView({ query }: { query: URLSearchParams }) {
  const { types, stats } = useLive()
  const schemas = useSchemas()
  const [type, setType] = useState(query.get('type') ?? '')
  const [draft, setDraft] = useState<Draft>({ value: {} })
  const [options, setOptions] = useState(OPTIONS)
  const copied = query.get('copy')
  const [isReady, setIsReady] = useState(copied === null)
  useEffect(() => {
    if (copied === null) return
    const copy = (task: Task) => {
      setType(task.type)
      setDraft({ value: task.payload })
      setOptions(optionsOf(task))
    }
    void get<Task>(`/tasks/${copied}`)
      .then(copy, () => undefined)
      .then(() => setIsReady(true))
  }, [copied])
  const choose = ({ currentTarget }: { currentTarget: HTMLSelectElement | HTMLInputElement }) => {
    setType(currentTarget.value)
    setDraft({ value: {} })
  }
  return (
    <>
      <h1>{say(copied === null ? 'submit' : 'again')}</h1>
      {copied !== null && (
        <p class="dim">
          {say('copyOf')} <a href={`#/tasks/${copied}`}>{copied}</a>
        </p>
      )}
      <Panel>
        <label class="type" htmlFor="type">
          {say('type')}
          {may('read') ? (
            <select id="type" value={type} onChange={choose}>
              <option value="">{say('chooseType')}</option>
              {types.map(({ type: name }) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          ) : (
            <input id="type" value={type} spellcheck={false} onChange={choose} />
          )}
        </label>
        {stats && types.length === 0 && <NoTypes />}
        {isReady && type !== '' && schemas && (type in schemas || !may('read')) && (
          <Form key={type} type={type} schema={schemas[type]} {...{ draft, setDraft, options, setOptions }} />
        )}
      </Panel>
    </>
  )
}

/** The options of a task. It gets no place in a flow and no key of another task. */
function optionsOf({
  priority,
  max_retry,
  queue_timeout,
  process_timeout,
  group,
  tags,
  uses = {},
  batch,
}: Task): Options {
  return {
    ...OPTIONS,
    priority: priority === 0 ? '' : String(priority),
    max_retry: String(max_retry),
    queue_timeout: String(queue_timeout),
    process_timeout: String(process_timeout),
    group: group ?? '',
    tags: textOf(tags),
    uses: textOf(uses),
    batch: batch ?? '',
  }
}

/** A map as people write it, `key:value, key:value`. */
function textOf(map: Readonly<Record<string, string | number>>): string {
  return Object.entries(map)
    .map(([key, value]) => `${key}:${value}`)
    .join(', ')
}

function pairsOf(text: string): [key: string, value: string][] {
  return text.split(',').flatMap((pair): [string, string][] => {
    const colon = pair.indexOf(':')
    return colon < 1 ? [] : [[pair.slice(0, colon).trim(), pair.slice(colon + 1).trim()]]
  })
}

interface FormProps {
  type: string
  schema: Schema | null | undefined
  draft: Draft
  setDraft: (draft: Draft) => void
  options: Options
  setOptions: (options: Options) => void
}

function Form({ type, schema, draft, setDraft, options, setOptions }: FormProps) {
  const [refusal, setRefusal] = useState<Refusal | null>(null)
  const [ids, setIds] = useState<string[]>([])
  const submit = async (event: Event) => {
    event.preventDefault()
    setRefusal(null)
    try {
      const { id } = await call<Task>('POST', '/tasks', { type, payload: payloadOf(draft), ...given(options) })
      setIds([id, ...ids].slice(0, 10))
    } catch (error) {
      setRefusal(error as Refusal)
    }
  }
  return (
    <form class="submit" onSubmit={submit}>
      <PayloadEditor schema={schema} draft={draft} setDraft={setDraft} />
      <details open={Object.values(options).some((value) => value !== '')}>
        <summary>{say('options')}</summary>
        <OptionFields options={options} setOptions={setOptions} />
      </details>
      <button type="submit">{say('submit')}</button>
      {refusal && (
        <div class="refused" role="alert">
          <p>{refusal.message}</p>
          <ul>
            {refusal.fields.map(({ path, message }) => (
              <li key={path}>
                <code>{path}</code> {message}
              </li>
            ))}
          </ul>
        </div>
      )}
      <Submitted ids={ids} />
    </form>
  )
}

function OptionFields({ options, setOptions }: { options: Options; setOptions: (options: Options) => void }) {
  const field = (name: keyof Options, label: string, attributes: object = {}) => (
    <label>
      {label}
      <input
        {...attributes}
        value={options[name]}
        onInput={({ currentTarget }) => setOptions({ ...options, [name]: currentTarget.value })}
      />
    </label>
  )
  return (
    <div class="grid">
      {field('priority', say('priority'), { type: 'number', min: 0, max: 9, placeholder: '0' })}
      {field('delay', say('delay'), { placeholder: '0' })}
      {field('max_retry', say('maxRetry'), { type: 'number', min: 0, max: 1_000 })}
      {field('queue_timeout', say('waitTimeout'), { type: 'number', min: 0, step: 'any' })}
      {field('process_timeout', say('processTimeout'), { type: 'number', min: 0, step: 'any' })}
      {field('group', say('group'))}
      {field('tags', say('tagsField'))}
      {field('uses', say('usesField'))}
      {field('idempotency_key', say('key'))}
      {field('batch', say('batch'))}
      {field('after', say('afterField'), { spellcheck: false })}
      <label>
        {say('onFailure')}
        <select
          value={options.on_failure}
          onChange={({ currentTarget }) => setOptions({ ...options, on_failure: currentTarget.value })}
        >
          <option value="">{say('default')}</option>
          {ON_FAILURE.map((name) => (
            <option key={name} value={name}>
              {say(`on_failure_${name}`)}
            </option>
          ))}
        </select>
      </label>
    </div>
  )
}

/** What was just submitted, each with its state as it changes. */
function Submitted({ ids }: { ids: string[] }) {
  const { rows } = useLive()
  return (
    <ul class="runs submitted" aria-live="polite">
      {ids.map((id) => (
        <li key={id}>
          {say('submitted')} <a href={`#/tasks/${id}`}>{id}</a>{' '}
          <StatusBadge status={rows.get(id)?.status ?? 'pending'} />
        </li>
      ))}
    </ul>
  )
}

function given(options: Options): object {
  const { priority, delay, max_retry, queue_timeout, process_timeout, group, idempotency_key, batch, on_failure } =
    options
  const [tags, uses] = [pairsOf(options.tags), pairsOf(options.uses)]
  const ids = options.after.split(/[\s,]/).filter((id) => id !== '')
  const number = (text: string) => (/^[\d.]+$/.test(text) ? Number(text) : text)
  return {
    ...(priority === '' ? {} : { priority: Number(priority) }),
    ...(delay === '' ? {} : { delay: number(delay) }),
    ...(max_retry === '' ? {} : { max_retry: Number(max_retry) }),
    ...(queue_timeout === '' ? {} : { queue_timeout: Number(queue_timeout) }),
    ...(process_timeout === '' ? {} : { process_timeout: Number(process_timeout) }),
    ...(group === '' ? {} : { group }),
    ...(tags.length === 0 ? {} : { tags: Object.fromEntries(tags) }),
    ...(uses.length === 0 ? {} : { uses: Object.fromEntries(uses.map(([name, units]) => [name, number(units)])) }),
    ...(idempotency_key === '' ? {} : { idempotency_key }),
    ...(batch === '' ? {} : { batch }),
    ...(ids.length === 0 ? {} : { after: ids }),
    ...(on_failure === '' ? {} : { on_failure }),
  }
}
