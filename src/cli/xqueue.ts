#!/usr/bin/env node
/** The program that npm installs. An older Node would stop in the middle of an import, with nobody knowing why. */
const NODE_MAJOR_MIN = 24

if (Number(process.versions.node.split('.')[0]) < NODE_MAJOR_MIN) {
  process.stderr.write(`xqueue: Node ${process.version} runs this: install Node ${NODE_MAJOR_MIN} or newer\n`)
  process.exitCode = 2
} else {
  await import('./main.ts')
}

export {} // A module, because of the await.
