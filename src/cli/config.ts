import { Command } from 'commander'
import { loadConfig } from '../config/config.ts'
import { SETTINGS } from '../config/settings.ts'
import { formatDuration } from '../task/duration.ts'
import { print, withExamples } from './output.ts'
import { settingsOf, withSettings } from './serve.ts'
import { table } from './terminal.ts'

/** Settings that are URLs: shown without their passwords. */
const URLS = ['engine', 'mqtt']

/** `xqueue config`: each setting with its value and source. */
export function configCommand(): Command {
  const command = withSettings(new Command('config'))
    .description('show every setting with its value and source')
    .option('--json', 'print JSON')
    .action(async ({ json, ...flags }: { json?: boolean }) => {
      const secrets = new Set(SETTINGS.flatMap(({ name, secret }) => (secret && !URLS.includes(name) ? [name] : [])))
      const { sources } = await loadConfig(settingsOf(flags), process.env, process.cwd())
      const shown = sources.map(({ name, value, source }) => ({
        name,
        value: value !== null && secrets.has(name) ? '(set)' : withoutPassword(value),
        source,
      }))
      const times = new Set(SETTINGS.filter(({ type }) => type.kind === 'duration').map(({ name }) => name))
      const rows = shown.map(({ name, value, source }) => {
        const isTime = times.has(name) && typeof value === 'number'
        return [name, isTime ? formatDuration(value) : value, source]
      })
      print(json ? JSON.stringify(shown) : table(['SETTING', 'VALUE', 'FROM'], rows))
    })
  return withExamples(command, 'xqueue config', 'XQUEUE_PORT=9000 xqueue config --json')
}

/** Removes passwords from the URLs in a setting. */
function withoutPassword(value: string | number | boolean | null) {
  if (typeof value !== 'string') return value
  const [first, ...urls] = value.split('://')
  return [first, ...urls.map(maskCredentials)].join('://')
}

/** @param url the URL after its scheme: `user:password@host…` */
function maskCredentials(url: string): string {
  const end = url.search(/[\s?]/)
  const authority = end < 0 ? url : url.slice(0, end)
  const [colon, at] = [authority.indexOf(':'), authority.lastIndexOf('@')]
  return colon >= 0 && colon < at ? `${url.slice(0, colon)}:(set)${url.slice(at)}` : url
}
