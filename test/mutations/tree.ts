import { execFile, execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root } from '../fixtures/root.ts'

/** A copy of the files that git knows, in their present state, in which sources can be broken. */
export class Tree {
  readonly folder = mkdtempSync(join(tmpdir(), 'xqueue-mutations-'))

  constructor() {
    const options = { cwd: root, encoding: 'utf8' } as const
    const listed = execFileSync('git', ['ls-files', '-co', '--exclude-standard', '-z'], options)
    const files = listed.split('\0').filter((name) => name !== '' && !name.startsWith('bench/'))
    for (const name of files) cpSync(join(root, name), join(this.folder, name), { force: true })
    symlinkSync(join(root, 'node_modules'), join(this.folder, 'node_modules'))
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, maxRetries: 5, retryDelay: 100 })
  }

  run(args: readonly string[], maxMs: number, env: NodeJS.ProcessEnv = {}): Promise<{ code: number; text: string }> {
    const options = { cwd: this.folder, timeout: maxMs, maxBuffer: 1e8, env: { ...process.env, ...env } }
    return new Promise((resolve) => {
      execFile(process.execPath, args, options, (error, stdout, stderr) => {
        resolve({ code: error ? 1 : 0, text: stdout + stderr })
      })
    })
  }

  /** Runs tests until the first failure. Null: a store that is broken kept the run from ending. */
  async test(
    args: readonly string[],
    maxMs: number,
    { env = {}, testMsMax = 15_000 }: { env?: NodeJS.ProcessEnv; testMsMax?: number } = {},
  ): Promise<{ failed: string | null; passed: number } | null> {
    const report = join(this.folder, 'report.json')
    rmSync(report, { force: true })
    const vitest = join(root, 'node_modules/vitest/vitest.mjs')
    const flags = ['--bail=1', '--reporter=json', `--outputFile=${report}`, `--testTimeout=${testMsMax}`]
    await this.run([vitest, 'run', ...args, ...flags], maxMs, env)
    if (!existsSync(report)) return null
    const { success, testResults } = JSON.parse(readFileSync(report, 'utf8')) as Report
    const tests = testResults.flatMap(({ assertionResults }) => assertionResults)
    const failed = tests.find(({ status }) => status === 'failed')?.title
    return {
      failed: failed ?? (success ? null : 'a file could not be loaded'),
      passed: tests.filter(({ status }) => status === 'passed').length,
    }
  }
}

interface Report {
  success: boolean
  testResults: { assertionResults: { status: string; title: string }[] }[]
}
