import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type DefaultTheme, defineConfig } from 'vitepress'
import { SECTIONS } from '../sections.ts'

const titles: Record<string, string> = JSON.parse(
  readFileSync(join(import.meta.dirname, '../pages/titles.json'), 'utf8'),
)

function sidebar(language: 'en' | 'zh'): DefaultTheme.SidebarItem[] {
  const prefix = language === 'zh' ? 'zh/' : ''
  return SECTIONS.map((section) => ({
    text: section[language],
    collapsed: false,
    items: section.pages.map((page) => ({
      text: page === 'index' ? 'XQueue' : titles[`${prefix}${page}.md`]!,
      link: `/${prefix}${page.replace(/(^|\/)index$/, '$1')}`,
    })),
  }))
}

/** As on GitHub, so that links work in both places. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\p{M} _-]/gu, '')
    .replaceAll(' ', '-')

/** Whether a character is Chinese, or punctuation of Chinese. */
const isChinese = (character = ''): boolean => /[\p{Script=Han}\u3000-\u303f\uff00-\uffef“”…]/u.test(character)

/** Words of Chinese have no spaces between them. */
const tokenize = (text: string): string[] =>
  [...new Intl.Segmenter('zh', { granularity: 'word' }).segment(text)].flatMap(({ segment, isWordLike }) =>
    isWordLike ? [segment] : [],
  )

export default defineConfig({
  title: 'XQueue',
  description: 'A distributed task queue with exact limits and live status',
  head: [['link', { rel: 'icon', href: '/icon.svg', type: 'image/svg+xml' }]],
  srcDir: 'pages',
  outDir: 'dist',
  cleanUrls: true,
  metaChunk: true,
  // Their existence is checked by pages.ts.
  ignoreDeadLinks: [/^\/files\//],
  locales: {
    root: { label: 'English', lang: 'en', themeConfig: { sidebar: sidebar('en') } },
    zh: {
      label: '简体中文',
      lang: 'zh-CN',
      description: '限制精确、状态实时的分布式任务队列',
      themeConfig: {
        sidebar: sidebar('zh'),
        outline: { label: '本页内容' },
        docFooter: { prev: '上一页', next: '下一页' },
        returnToTopLabel: '回到顶部',
        sidebarMenuLabel: '目录',
        darkModeSwitchLabel: '外观',
        langMenuLabel: '语言',
      },
    },
  },
  themeConfig: {
    outline: { level: [2, 3] },
    search: {
      provider: 'local',
      options: {
        miniSearch: { options: { tokenize } },
        locales: {
          zh: {
            translations: {
              button: { buttonText: '搜索', buttonAriaLabel: '搜索' },
              modal: {
                noResultsText: '没有找到',
                resetButtonTitle: '清除',
                footer: { selectText: '选择', navigateText: '切换', closeText: '关闭' },
              },
            },
          },
        },
      },
    },
  },
  markdown: {
    // Headings of the HTTP API have braces: `GET /tasks/{id}`.
    attrs: { disable: true },
    anchor: { slugify: anchorOf },
    config(markdown) {
      const fence = markdown.renderer.rules.fence!
      markdown.renderer.rules.fence = (tokens, index, ...rest) => {
        const { info, content } = tokens[index]!
        return info.trim() === 'mermaid'
          ? `<Diagram code="${encodeURIComponent(content)}" />`
          : fence(tokens, index, ...rest)
      }
      // A line break between two Chinese characters is no space.
      markdown.renderer.rules.softbreak = (tokens, index) =>
        isChinese(tokens[index - 1]?.content.at(-1)) && isChinese(tokens[index + 1]?.content[0]) ? '' : '\n'
    },
  },
})
