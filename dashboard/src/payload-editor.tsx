import { useEffect, useState } from 'preact/hooks'
import { get, type Json, Refusal, type Schema, type TypeInfo } from './api.ts'
import { useLive } from './live.ts'
import { canBeForm, SchemaForm } from './schema-form.tsx'
import { may } from './session.ts'
import { say } from './words.ts'

/** The schemas of all types; undefined until they are known. Without the right to read them, there are none. */
export function useSchemas(): Record<string, Schema | null> | undefined {
  const { types, generation } = useLive()
  const [schemas, setSchemas] = useState<Record<string, Schema | null> | undefined>(may('read') ? undefined : {})
  const names = types.map(({ type }) => type).join()
  // Schemas may have changed with the types and after a reconnect.
  useEffect(() => {
    if (!may('read')) return
    const read = async () => {
      const told = await get<{ types: TypeInfo[] }>('/types')
      setSchemas(Object.fromEntries(told.types.map((info) => [info.type, info.payload_schema ?? null])))
    }
    void read().catch(() => undefined)
  }, [names, generation])
  return schemas
}

/** What the user has entered: a value, or text that may not be JSON yet. */
export type Draft = { value: Json } | { text: string }

/** @throws Refusal if the text is not JSON */
export function payloadOf(draft: Draft): Json {
  if ('value' in draft) return draft.value
  try {
    return JSON.parse(draft.text)
  } catch (error) {
    throw new Refusal(say('badJson', (error as Error).message))
  }
}

function errorOf(text: string): string {
  try {
    payloadOf({ text })
    return ''
  } catch (refused) {
    return (refused as Error).message
  }
}

interface Props {
  schema: Schema | null | undefined
  draft: Draft
  setDraft: (draft: Draft) => void
}

/** A form made of the schema of the type, or a field for JSON. One can change between them. */
export function PayloadEditor({ schema, draft, setDraft }: Props) {
  const [asJson, setAsJson] = useState(!canBeForm(schema))
  const text = 'text' in draft ? draft.text : JSON.stringify(draft.value, null, 2)
  const isObject = 'value' in draft && typeof draft.value === 'object' && !Array.isArray(draft.value)
  const isForm = !asJson && canBeForm(schema) && isObject
  const invalid = isForm ? '' : errorOf(text)
  const turn = () => {
    setDraft({ value: payloadOf({ text }) })
    setAsJson(isForm)
  }
  return (
    <fieldset>
      <legend>{say('payload')}</legend>
      {canBeForm(schema) && (
        <button type="button" class="plain turn" disabled={invalid !== ''} title={invalid} onClick={turn}>
          {say(isForm ? 'asJson' : 'asForm')}
        </button>
      )}
      {isForm ? (
        <SchemaForm
          schema={schema}
          values={draft.value as { [key: string]: Json }}
          onChange={(value) => setDraft({ value })}
        />
      ) : (
        <textarea
          rows={8}
          class="json"
          spellcheck={false}
          aria-label={say('payload')}
          aria-invalid={invalid !== ''}
          value={text}
          onInput={({ currentTarget }) => setDraft({ text: currentTarget.value })}
        />
      )}
    </fieldset>
  )
}
