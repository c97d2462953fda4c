#!/usr/bin/env node
/** The program that npm installs. It checks the version of Node first, because an older one fails during an import. */
/** Node 24.9 is the first that hands on requests with an `Upgrade` header that is not for us as ordinary ones. */
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)

if (major < 24 || (major === 24 && minor < 9)) {
  process.stderr.write(
    `xqueue: XQueue needs Node 24.9 or newer; this is ${process.version}. Install it, or add it to the project with ` +
      '`npm install --save-dev node@24` and call `npx xqueue`\n',
  )
  process.exitCode = 2
} else {
  await keepCompiledCode()
  await import('./main.ts')
}

/**
 * Compiled code of the short commands is kept for the next one, which then starts in half the time. It is kept in a
 * folder of the user: in the one for temporary files, which is Node's default, other users could place their own.
 */
async function keepCompiledCode(): Promise<void> {
  const { HOME, LOCALAPPDATA, XDG_CACHE_HOME } = process.env
  const folder = XDG_CACHE_HOME || LOCALAPPDATA || (HOME && `${HOME}/.cache`)
  if (!folder || ['serve', 'worker'].includes(process.argv[2] ?? '')) return
  const { enableCompileCache } = await import('node:module')
  enableCompileCache(`${folder}/xqueue`) // Without a right to write there, nothing is kept.
}

export {} // A module, because of the await.
