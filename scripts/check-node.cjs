'use strict'

/**
 * Runs before everything else that npm starts, on any Node: says in plain words what is missing. npm puts
 * node_modules/.bin first on the path, so that an older Node here means that the one that comes along is not installed.
 */
const NEEDED = 24

if (Number(process.versions.node.split('.')[0]) < NEEDED) {
  console.error(
    `XQueue needs Node ${NEEDED} or newer to run; this is ${process.version}.\n` +
      '`npm ci` installs Node 24 into node_modules by an install script: allow the install scripts of the package "node"\n' +
      '(npm rebuild node), or install Node 24 yourself, then run the command again.',
  )
  process.exit(1)
}
