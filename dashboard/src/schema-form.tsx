import type { Json, Schema } from './api.ts'
import { say } from './words.ts'

type Values = { [key: string]: Json }

/** Whether a payload of this schema can be asked for field by field. */
export function canBeForm(
  schema: Schema | null | undefined,
): schema is Schema & { properties: Record<string, Schema> } {
  return schema?.type === 'object' && schema.properties !== undefined && Object.keys(schema.properties).length > 0
}

/** One field for each property; what is no text, number, choice or yes-or-no is asked for as JSON. */
export function SchemaForm({
  schema,
  values,
  onChange,
}: {
  schema: Schema & { properties: Record<string, Schema> }
  values: Values
  onChange: (values: Values) => void
}) {
  const set = (name: string, value: Json | undefined) => {
    const { [name]: _, ...others } = values
    onChange(value === undefined ? others : { ...others, [name]: value })
  }
  return (
    <>
      {Object.entries(schema.properties).map(([name, property]) => (
        <label key={name} htmlFor={`field-${name}`} class={property.type === 'boolean' ? 'check' : ''}>
          <span>
            {name}
            {schema.required?.includes(name) && property.default === undefined && <b aria-hidden="true"> *</b>}
          </span>
          <Field
            id={`field-${name}`}
            property={property}
            value={values[name]}
            required={schema.required?.includes(name) === true && property.default === undefined}
            onChange={(value) => set(name, value)}
          />
          {property.description && <small>{property.description}</small>}
        </label>
      ))}
    </>
  )
}

interface FieldProps {
  id: string
  property: Schema
  value: Json | undefined
  required: boolean
  onChange: (value: Json | undefined) => void
}

function Field({ id, property, value, required, onChange }: FieldProps) {
  const choices = property.enum ?? property.anyOf?.map((choice) => choice.const).filter((of) => of !== undefined)
  const hint = property.default === undefined ? '' : `${say('default')}: ${JSON.stringify(property.default)}`
  if (choices && choices.length > 0) {
    return (
      <select
        id={id}
        value={value === undefined ? '' : JSON.stringify(value)}
        required={required}
        onChange={({ currentTarget }) =>
          onChange(currentTarget.value === '' ? undefined : JSON.parse(currentTarget.value))
        }
      >
        <option value="">{hint || '–'}</option>
        {choices.map((choice) => (
          <option key={JSON.stringify(choice)} value={JSON.stringify(choice)}>
            {String(choice)}
          </option>
        ))}
      </select>
    )
  }
  switch (property.type) {
    case 'boolean':
      return (
        <input
          id={id}
          type="checkbox"
          checked={value === true}
          onChange={({ currentTarget }) => onChange(currentTarget.checked)}
        />
      )
    case 'number':
    case 'integer':
      return (
        <input
          id={id}
          type="number"
          step={property.type === 'integer' ? 1 : 'any'}
          min={property.minimum}
          max={property.maximum}
          required={required}
          placeholder={hint}
          value={typeof value === 'number' ? value : ''}
          onInput={({ currentTarget }) =>
            onChange(currentTarget.value === '' ? undefined : Number(currentTarget.value))
          }
        />
      )
    case 'string':
      return (
        <textarea
          id={id}
          rows={1}
          required={required}
          placeholder={hint}
          minLength={property.minLength}
          maxLength={property.maxLength}
          value={typeof value === 'string' ? value : ''}
          onInput={({ currentTarget }) => onChange(currentTarget.value === '' ? undefined : currentTarget.value)}
        />
      )
    default:
      return <JsonField id={id} value={value} required={required} onChange={onChange} hint={hint || 'JSON'} />
  }
}

function JsonField({ id, value, required, onChange, hint }: Omit<FieldProps, 'property'> & { hint: string }) {
  const check = (input: HTMLTextAreaElement) => {
    try {
      input.setCustomValidity('')
      onChange(input.value.trim() === '' ? undefined : JSON.parse(input.value))
    } catch (error) {
      input.setCustomValidity(say('badJson', (error as Error).message))
    }
  }
  return (
    <textarea
      id={id}
      rows={2}
      required={required}
      placeholder={hint}
      spellcheck={false}
      defaultValue={value === undefined ? '' : JSON.stringify(value)}
      onInput={({ currentTarget }) => check(currentTarget)}
    />
  )
}
