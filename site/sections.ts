/** The order of the pages in the sidebar, by their paths in the site. Every page of docs/ belongs to one section. */
export const SECTIONS: readonly { en: string; zh: string; pages: readonly string[] }[] = [
  { en: 'Start', zh: '开始', pages: ['index', 'concepts', 'faq'] },
  {
    en: 'How to',
    zh: '操作指南',
    pages: [
      'how-to/index',
      'how-to/add-a-handler',
      'how-to/use-javascript-or-commonjs',
      'how-to/run-inside-your-server',
      'how-to/run-separate-workers',
      'how-to/call-a-webhook-on-completion',
      'how-to/find-and-fix-failures',
      'how-to/read-the-log-of-a-task',
      'how-to/test-a-handler',
      'how-to/limit-an-api',
      'how-to/serve-several-tenants',
      'how-to/deploy-on-one-machine',
      'how-to/deploy-on-kubernetes',
    ],
  },
  {
    en: 'Learn',
    zh: '入门',
    pages: ['handlers', 'limits', 'schedules', 'flows', 'live', 'testing', 'typescript', 'clients'],
  },
  { en: 'Reference', zh: '参考', pages: ['reference/http', 'reference/cli', 'reference/mqtt'] },
  {
    en: 'Run',
    zh: '运行',
    pages: [
      ...['deployment', 'operations', 'observability', 'security', 'mcp', 'upgrading'],
      ...['engines', 'stores', 'redis', 'kafka', 'clients/python', 'clients/go'],
    ],
  },
  {
    en: 'Judge',
    zh: '评估',
    pages: [
      ...['compare', 'guarantees', 'performance', 'decisions', 'architecture', 'dependencies', 'roadmap', 'changelog'],
      ...['security-policy', 'contributing'],
    ],
  },
  {
    en: 'Coming from',
    zh: '迁移',
    pages: ['migrating-from-bullmq', 'migrating-from-celery', 'migrating-from-go-xqueue'],
  },
]
