#!/usr/bin/env node
/** The program that npm installs. It checks the version of Node first, because an older one fails during an import. */
const NODE_MAJOR_MIN = 24

if (Number(process.versions.node.split('.')[0]) < NODE_MAJOR_MIN) {
  process.stderr.write(`xqueue: XQueue needs Node ${NODE_MAJOR_MIN} or newer; this is ${process.version}\n`)
  process.exitCode = 2
} else {
  await import('./main.ts')
}

export {} // A module, because of the await.
