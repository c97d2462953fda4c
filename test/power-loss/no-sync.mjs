import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

/** A fault of the program: it answers as if it had synced. */
fs.fdatasync = (_fd, done) => setImmediate(done, null)
syncBuiltinESMExports()
