'use strict'

/**
 * Runs before everything else that npm starts, on any Node: says in plain words what is missing. npm puts
 * node_modules/.bin first on the path, so that an older Node here means that the one that comes along is not installed.
 */
const [major, minor] = process.versions.node.split('.').map(Number)

if (major < 24 || (major === 24 && minor < 9)) {
  console.error(
    `XQueue needs Node 24.9 or newer to run; this is ${process.version}.\n` +
      '`npm ci` installs Node 24 into node_modules by an install script: allow the install scripts of the package "node"\n' +
      '(npm rebuild node), or install Node 24.9 or newer yourself, then run the command again.',
  )
  process.exit(1)
}
