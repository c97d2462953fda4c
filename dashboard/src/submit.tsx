import { useEffect, useState } from 'preact/hooks'
import { call, get, type Json, Refusal, type Schema, type Task, type TypeInfo } from './api.ts'
import { useLive } from './live.ts'
import { Panel, StatusBadge } from './parts.tsx'
import { canBeForm, SchemaForm } from './schema-form.tsx'
import { may } from './session.ts'
import { ON_FAILURE, say } from './words.ts'

const OPTIONS = {
  ...{ priority: '', delay: '', max_retry: '', process_timeout: '', tags: '', idempotency_key: '' },
  ...{ batch: '', after: '', on_failure: '' },
}
type Options = typeof OPTIONS

/** A form made of what the type's handler says of its payload; as JSON where it says nothing. */
export function SubmitView({ query }: { query: URLSearchParams }) {
  const { types, generation } = useLive()
  const [schemas, setSchemas] = useState<Record<string, Schema | null>>({})
  const [type, setType] = useState(query.get('type') ?? '')
  const [payload, setPayload] = useState<Json>({})
  const names = types.map(({ type: name }) => name).join()
  // Schemas may have changed with the types and after a reconnect.
  useEffect(() => {
    if (!may('read')) return
    const read = async () => {
      const told = await get<{ types: TypeInfo[] }>('/types')
      setSchemas(Object.fromEntries(told.types.map((info) => [info.type, info.payload_schema ?? null])))
    }
    void read().catch(() => undefined)
  }, [names, generation])
  const copied = query.get('copy')
  useEffect(() => {
    if (copied === null) return
    const copy = (task: Task) => {
      setType(task.type)
      setPayload(task.payload)
    }
    void get<Task>(`/tasks/${copied}`).then(copy, () => undefined)
  }, [copied])
  const choose = ({ currentTarget }: { currentTarget: HTMLSelectElement | HTMLInputElement }) => {
    setType(currentTarget.value)
    setPayload({})
  }
  return (
    <>
      <h1>{say('submit')}</h1>
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
        {type !== '' && (type in schemas || !may('read')) && (
          <Form key={type} type={type} schema={schemas[type]} payload={payload} setPayload={setPayload} />
        )}
      </Panel>
    </>
  )
}

interface FormProps {
  type: string
  schema: Schema | null | undefined
  payload: Json
  setPayload: (payload: Json) => void
}

function Form({ type, schema, payload, setPayload }: FormProps) {
  const [asJson, setAsJson] = useState(!canBeForm(schema))
  const [text, setText] = useState<string | null>(null)
  const [options, setOptions] = useState(OPTIONS)
  const [refusal, setRefusal] = useState<Refusal | null>(null)
  const [ids, setIds] = useState<string[]>([])
  const shown = text ?? JSON.stringify(payload, null, 2)
  const submit = async (event: Event) => {
    event.preventDefault()
    setRefusal(null)
    try {
      const body = { type, payload: asJson ? parse(shown) : payload, ...given(options) }
      const { id } = await call<Task>('POST', '/tasks', body)
      setIds([id, ...ids].slice(0, 10))
    } catch (error) {
      setRefusal(error instanceof Refusal ? error : new Refusal((error as Error).message))
    }
  }
  const turn = () => {
    try {
      if (asJson) setPayload(parse(shown))
      setText(null)
      setAsJson(!asJson)
    } catch (error) {
      setRefusal(error as Refusal)
    }
  }
  return (
    <form class="submit" onSubmit={submit}>
      <fieldset>
        <legend>{say('payload')}</legend>
        {canBeForm(schema) && (
          <button type="button" class="plain turn" onClick={turn}>
            {say(asJson ? 'asForm' : 'asJson')}
          </button>
        )}
        {!asJson && canBeForm(schema) ? (
          <SchemaForm schema={schema} values={payload as { [key: string]: Json }} onChange={setPayload} />
        ) : (
          <textarea
            rows={8}
            class="json"
            spellcheck={false}
            aria-label={say('payload')}
            value={shown}
            onInput={({ currentTarget }) => setText(currentTarget.value)}
          />
        )}
      </fieldset>
      <details>
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
      {field('process_timeout', say('processTimeout'), { type: 'number', min: 0 })}
      {field('tags', say('tagsField'))}
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
  const { priority, delay, max_retry, process_timeout, tags, idempotency_key, batch, after, on_failure } = options
  const pairs = tags.split(',').flatMap((tag) => {
    const colon = tag.indexOf(':')
    return colon < 1 ? [] : [[tag.slice(0, colon).trim(), tag.slice(colon + 1).trim()]]
  })
  const ids = after.split(/[\s,]/).filter((id) => id !== '')
  const number = (text: string) => (/^[\d.]+$/.test(text) ? Number(text) : text)
  return {
    ...(priority === '' ? {} : { priority: Number(priority) }),
    ...(delay === '' ? {} : { delay: number(delay) }),
    ...(max_retry === '' ? {} : { max_retry: Number(max_retry) }),
    ...(process_timeout === '' ? {} : { process_timeout: Number(process_timeout) }),
    ...(pairs.length === 0 ? {} : { tags: Object.fromEntries(pairs) }),
    ...(idempotency_key === '' ? {} : { idempotency_key }),
    ...(batch === '' ? {} : { batch }),
    ...(ids.length === 0 ? {} : { after: ids }),
    ...(on_failure === '' ? {} : { on_failure }),
  }
}

function parse(text: string): Json {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new Refusal(say('badJson', (error as Error).message))
  }
}
