import { cpSync, existsSync, globSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { SECTIONS } from './sections.ts'

/**
 * Copies the documents of the repository into pages/, from which VitePress builds the site. Links between documents
 * become links of the site, and other files that they name are copied. A page that exists in English only, such
 * as a generated reference, has a note among the Chinese ones (docs/zh).
 */
const root = join(import.meta.dirname, '..')
const pages = join(import.meta.dirname, 'pages')

/** Documents outside of docs/, and their pages. */
const OTHERS: Readonly<Record<string, string>> = {
  'README.md': 'index.md',
  'README.zh-CN.md': 'zh/index.md',
  'ARCHITECTURE.md': 'architecture.md',
  'CHANGELOG.md': 'changelog.md',
  'CONTRIBUTING.md': 'contributing.md',
  'SECURITY.md': 'security-policy.md',
  'clients/python/README.md': 'clients/python.md',
  'clients/go/README.md': 'clients/go.md',
}
const NOTE = '::: info\n本页只提供英文版。\n:::\n\n'

/** The page of a document, or null for other files. */
function pageOf(file: string): string | null {
  if (OTHERS[file]) return OTHERS[file]
  if (!/^docs\/.*\.md$/.test(file)) return null
  return file.slice('docs/'.length).replace(/README\.md$/, 'index.md')
}

function write(page: string, text: string): void {
  const place = join(pages, page)
  mkdirSync(dirname(place), { recursive: true })
  writeFileSync(place, text)
}

/** @param chinese whether links lead to Chinese pages */
function textOf(file: string, chinese: boolean): string {
  const link = (target: string): string => {
    const [path = '', anchor] = target.split('#')
    if (/^[a-z][a-z+.-]*:/i.test(target) || path === '') return target
    const linked = normalize(join(dirname(file), path)).replace(/\/$/, '')
    const page = pageOf(linked)
    const prefix = chinese && page?.startsWith('zh/') === false ? '/zh/' : '/'
    // A translated page has other headings than the English one.
    const isOther = prefix === '/zh/' && translated.has(`zh/${page}`)
    const end = anchor === undefined || isOther ? '' : `#${anchor}`
    if (page) return `${prefix}${page.replace(/(^|\/)index\.md$/, '$1').replace(/\.md$/, '')}${end}`
    if (!existsSync(join(root, linked))) throw new Error(`${file} links to ${target}, which does not exist`)
    if (statSync(join(root, linked)).isDirectory()) return ''
    cpSync(join(root, linked), join(pages, 'public/files', linked))
    return `/files/${linked}`
  }
  return readFileSync(join(root, file), 'utf8')
    .split(/(^```[\s\S]*?^```$|`[^`\n]*`)/m)
    .map((part) => (part.startsWith('`') ? part : part.replaceAll(/\]\(([^)\s]+)\)/g, (_, to) => `](${link(to)})`)))
    .join('')
    .replaceAll(/\[([^\]]+)\]\(\)/g, '$1')
}

const documents = [...globSync('docs/**/*.md', { cwd: root }), ...Object.keys(OTHERS)].sort()
const translated = new Set(documents.map((file) => pageOf(file)!).filter((page) => page.startsWith('zh/')))
rmSync(pages, { recursive: true, force: true })
const titles: Record<string, string> = {}
for (const file of documents) {
  const page = pageOf(file)!
  const chinese = page.startsWith('zh/')
  const text = textOf(file, chinese)
  titles[page] = /^# (.+)$/m.exec(text)![1]!
  write(page, text)
  const inChinese = `zh/${page}`
  if (chinese || translated.has(inChinese)) continue
  titles[inChinese] = titles[page]
  write(
    inChinese,
    textOf(file, true).replace(/^# .+\n\n/m, (heading) => heading + NOTE),
  )
}
cpSync(join(root, 'dashboard/public/icon.svg'), join(pages, 'public/icon.svg'))
writeFileSync(join(pages, 'titles.json'), JSON.stringify(titles))

const listed = new Set(SECTIONS.flatMap((section) => section.pages.map((page) => `${page}.md`)))
const unlisted = Object.keys(titles).filter((page) => !page.startsWith('zh/') && !listed.has(page))
if (unlisted.length > 0) throw new Error(`sections.ts does not list ${unlisted.join(', ')}`)
const absent = [...listed].filter((page) => !titles[page])
if (absent.length > 0) throw new Error(`sections.ts lists pages that do not exist: ${absent.join(', ')}`)
