import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

/**
 * Jars that a project file names, with all that they need, fetched from Maven Central once.
 *
 * @param name of the folder that keeps them: another version has another name
 * @returns the folder
 */
export function jarsOf(project: string, name: string): string {
  const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache')
  const folder = join(cache, 'xqueue-tests', name)
  if (existsSync(folder)) return folder
  console.error(`fetching ${name} from Maven Central, once`)
  mkdirSync(join(cache, 'xqueue-tests'), { recursive: true })
  // Two may come at once: under its name only when it is complete, and each with a repository of its own, since Maven
  // shares none safely.
  const part = mkdtempSync(`${folder}-`)
  const own = mkdtempSync(`${folder}-repository-`)
  const goal = ['dependency:copy-dependencies', '-DincludeScope=runtime', `-DoutputDirectory=${part}`]
  const args = ['-B', '-q', `-Dmaven.repo.local=${own}`, '-f', project, ...goal]
  try {
    execFileSync('mvn', args, { stdio: ['ignore', 'ignore', 'inherit'] })
  } finally {
    rmSync(own, { recursive: true, force: true })
  }
  try {
    renameSync(part, folder)
  } catch (error) {
    if (!existsSync(folder)) throw error
    rmSync(part, { recursive: true, force: true })
  }
  return folder
}
