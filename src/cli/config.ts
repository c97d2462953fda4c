import { Command } from 'commander'
import { loadConfig } from '../config/config.ts'
import { SETTINGS } from '../config/settings.ts'
import { print, table, withExamples } from './output.ts'
import { settingsOf, withSettings } from './serve.ts'

/** Those that are URLs are shown without their passwords. */
const URLS = ['engine', 'mqtt']

/** `xqueue config`: each setting, its value, and where it came from. */
export function configCommand(): Command {
  const command = withSettings(new Command('config'))
    .description('show every setting and where its value comes from')
    .option('--json', 'print JSON')
    .action(async ({ json, ...flags }: { json?: boolean }) => {
      const secrets = new Set(SETTINGS.flatMap(({ name, secret }) => (secret && !URLS.includes(name) ? [name] : [])))
      const { sources } = await loadConfig(settingsOf(flags), process.env, process.cwd())
      const shown = sources.map(({ name, value, source }) => ({
        name,
        value: value !== null && secrets.has(name) ? '(set)' : withoutPassword(value),
        source,
      }))
      const rows = shown.map(({ name, value, source }) => [name, value, source])
      print(json ? JSON.stringify(shown) : table(['SETTING', 'VALUE (durations in ms)', 'FROM'], rows))
    })
  return withExamples(command, 'xqueue config', 'XQUEUE_PORT=9000 xqueue config --json')
}

/** Of a URL with one in it, as an engine's or a broker's may be. */
function withoutPassword(value: string | number | boolean | null) {
  return typeof value === 'string' ? value.replaceAll(/([a-z+]+:\/\/[^:@/\s]*):[^@\s]*@/g, '$1:(set)@') : value
}
