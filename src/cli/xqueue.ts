#!/usr/bin/env node
/** The program that npm installs. It checks the version of Node first, because an older one fails during an import. */
/** Node 24.9 is the first that hands on requests with an `Upgrade` header that is not for us as ordinary ones. */
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)

if (major < 24 || (major === 24 && minor < 9)) {
  process.stderr.write(`xqueue: XQueue needs Node 24.9 or newer; this is ${process.version}\n`)
  process.exitCode = 2
} else {
  await import('./main.ts')
}

export {} // A module, because of the await.
