import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { redisCli } from './redis.ts'

/** Makes the user that docs/redis.md says is enough, for a prefix. */
export function makeDocumentedUser(port: number, prefix: string, password: string, without = ''): void {
  const docs = readFileSync(join(import.meta.dirname, '../../docs/redis.md'), 'utf8')
  const rule = /^ACL SETUSER xqueue .*$/m.exec(docs)![0]
  const words = rule.replace('>secret', `>${password}`).replace('~xq:', `~${prefix}:`).replace('&xq@', `&${prefix}@`)
  redisCli(port, ...words.split(' ').filter((word) => word !== without))
}
