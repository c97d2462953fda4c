import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './xqueue.ts'

/** A fenced block of a document. Its name is what its first line says: `// client.ts`, `# worker.py`. */
export interface Snippet {
  language: string
  name: string | null
  code: string
}

/** The blocks of a document of this repository, in order. */
export function snippetsOf(document: string): Snippet[] {
  const text = readFileSync(join(root, document), 'utf8')
  return [...text.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, language, code]) => ({
    language: language!,
    name: /^(?:\/\/|#) (\S+\.\w+)\n/.exec(code!)?.[1] ?? null,
    code: code!,
  }))
}

/** Writes the named blocks of a document into a folder, as its reader would. */
export function writeSnippets(document: string, folder: string): Snippet[] {
  const snippets = snippetsOf(document)
  for (const { name, code } of snippets) if (name) writeFileSync(join(folder, name), code)
  return snippets
}
