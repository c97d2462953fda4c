import { useState } from 'preact/hooks'

/** Everything that the page says. `{x}` is filled in. */
const en = {
  overview: 'Overview',
  tasks: 'Tasks',
  workers: 'Workers',
  limits: 'Limits',
  submit: 'Submit',
  api: 'API',
  skip: 'Skip to content',
  views: 'Views',
  language: '中文',
  languageTitle: '切换到中文',
  theme: 'Theme: {x}',
  auto: 'auto',
  light: 'light',
  dark: 'dark',
  connecting: 'connecting…',
  mqtt: 'live over MQTT',
  sse: 'live over Server-Sent Events',
  away: 'the server is away, connecting again…',
  pending: 'waiting',
  processing: 'running',
  success: 'succeeded',
  failed: 'failed',
  canceled: 'canceled',
  timeout: 'timed out',
  delayed: 'delayed',
  all: 'all',
  totals: 'Totals',
  throughput: 'Finished per second',
  backlog: 'Waiting and running',
  types: 'Task types',
  type: 'Type',
  status: 'Status',
  waiting: 'Waiting',
  running: 'Running',
  perSecond: 'Per second',
  wait: 'Wait p50 · p95 · p99',
  run: 'Run p50 · p95 · p99',
  errors: 'Errors',
  errorsTitle: 'Failed and timed out in the last 5 minutes, since this page was opened',
  trend: 'Trend',
  noLimit: 'no limit',
  paused: 'paused',
  noTypes: 'No task type yet: start a worker with handlers.',
  system: 'System',
  healthy: 'healthy',
  degraded: 'degraded',
  unhealthy: 'unhealthy',
  engine: 'Engine',
  uptime: 'Up for',
  findTask: 'Task id',
  tag: 'Tag',
  tagHint: 'key:value',
  open: 'Open',
  filter: 'Filter',
  noTasks: 'No tasks here.',
  task: 'Task',
  attempts: 'Attempts',
  progress: 'Progress',
  told: 'Result or error',
  changed: 'Changed',
  more: 'Load more',
  shown: '{x} shown',
  tagNote: 'Changes do not tell tags: this list is read again each second.',
  cancel: 'Cancel',
  retry: 'Run again',
  again: 'Submit a copy',
  gone: 'There is no such task: it never was, or retention removed it.',
  timeline: 'Timeline',
  created: 'created',
  payload: 'Payload',
  result: 'Result',
  error: 'Error',
  details: 'Details',
  why: 'Why',
  attempt: 'attempt {x}',
  ready: 'It is ready and runs as soon as a worker asks.',
  reason_delayed: 'It waits until {x}.',
  reason_limit_reached: 'All {x} permits of its type are in use.',
  reason_rate_limited: 'Its type has started as many as its rate allows for now.',
  reason_paused: 'Its type is paused.',
  reason_no_worker: 'No live worker has a handler for its type.',
  reason_behind: '{x} tasks of its type go first.',
  reason_running: 'It is running on {x}.',
  reason_finished: 'It has ended.',
  holders: 'Who holds the permits',
  noWorkers: 'No worker is alive.',
  host: 'Host',
  process: 'process {x}',
  lastSeen: 'last seen {x} ago',
  since: 'for {x}',
  of: '{x} of {y}',
  idle: 'idle',
  limit: 'Limit',
  inUse: 'in use',
  set: 'Set',
  remove: 'No limit',
  pause: 'Pause',
  resume: 'Resume',
  previewMore: 'Up to {x} waiting tasks start at once.',
  previewNone: 'Nothing waits: nothing starts at once.',
  previewLess: 'Running tasks finish; new ones start when fewer than {x} run.',
  previewFree: 'As many run as the workers have room for.',
  permits: 'Permits in use',
  expires: 'lease until {x}',
  nobody: 'Nobody holds a permit.',
  chooseType: 'Choose a type',
  options: 'Options',
  priority: 'Priority (0–9)',
  delay: 'Delay (s, 90s, 1h30m)',
  maxRetry: 'Retries',
  processTimeout: 'Run time-out (s)',
  tagsField: 'Tags (key:value, with commas)',
  key: 'Idempotency key',
  asJson: 'As JSON',
  asForm: 'As a form',
  badJson: 'This is no JSON: {x}',
  submitted: 'Submitted:',
  default: 'default',
  login: 'Log in',
  logIn: 'Log in',
  logOut: 'Log out',
  apiKey: 'API key',
  loginHint: 'Make one with: xqueue keys create NAME --scopes read,submit',
  notAllowed: 'This key does not allow anything that is shown here.',
  group: 'Group',
  worker: 'Worker',
  priorityOf: 'Priority',
  deliveries: 'Hand-outs',
  createdAt: 'Submitted',
  runAt: 'Due',
  waited: 'Waited',
  ran: 'Ran',
  queueTimeout: 'May wait',
  runTimeout: 'May run',
  timeoutReason: 'Timed out',
  whileWaiting: 'while it waited',
  whileRunning: 'while it ran',
  eachGroup: '{x} of each group',
  rateOf: '{x} starts in {y}',
}
export type Word = keyof typeof en

const zh: Record<Word, string> = {
  overview: '总览',
  tasks: '任务',
  workers: '工作进程',
  limits: '并发限制',
  submit: '提交',
  api: '接口',
  skip: '跳到内容',
  views: '视图',
  language: 'English',
  languageTitle: 'Switch to English',
  theme: '主题：{x}',
  auto: '自动',
  light: '浅色',
  dark: '深色',
  connecting: '连接中…',
  mqtt: '通过 MQTT 实时更新',
  sse: '通过 SSE 实时更新',
  away: '服务器不可用，正在重连…',
  pending: '等待中',
  processing: '运行中',
  success: '成功',
  failed: '失败',
  canceled: '已取消',
  timeout: '超时',
  delayed: '已延迟',
  all: '全部',
  totals: '总计',
  throughput: '每秒完成数',
  backlog: '等待与运行',
  types: '任务类型',
  type: '类型',
  status: '状态',
  waiting: '等待',
  running: '运行',
  perSecond: '每秒',
  wait: '等待 p50 · p95 · p99',
  run: '运行 p50 · p95 · p99',
  errors: '错误',
  errorsTitle: '打开本页后最近 5 分钟内失败和超时的任务数',
  trend: '趋势',
  noLimit: '无限制',
  paused: '已暂停',
  noTypes: '还没有任务类型：请启动带有处理器的工作进程。',
  system: '系统',
  healthy: '正常',
  degraded: '降级',
  unhealthy: '异常',
  engine: '引擎',
  uptime: '已运行',
  findTask: '任务 ID',
  tag: '标签',
  tagHint: '键:值',
  open: '打开',
  filter: '筛选',
  noTasks: '没有任务。',
  task: '任务',
  attempts: '尝试次数',
  progress: '进度',
  told: '结果或错误',
  changed: '更新时间',
  more: '加载更多',
  shown: '显示 {x} 条',
  tagNote: '变更消息不含标签：此列表每秒重新读取。',
  cancel: '取消',
  retry: '重新运行',
  again: '提交副本',
  gone: '没有这个任务：从未存在，或已过保留期。',
  timeline: '时间线',
  created: '创建',
  payload: '参数',
  result: '结果',
  error: '错误',
  details: '详情',
  why: '原因',
  attempt: '第 {x} 次尝试',
  ready: '已就绪，有工作进程请求时立即运行。',
  reason_delayed: '将等待到 {x}。',
  reason_limit_reached: '该类型的 {x} 个许可都在使用中。',
  reason_rate_limited: '该类型已达到当前的速率上限。',
  reason_paused: '该类型已暂停。',
  reason_no_worker: '没有存活的工作进程能处理该类型。',
  reason_behind: '同类型还有 {x} 个任务排在前面。',
  reason_running: '正在 {x} 上运行。',
  reason_finished: '已结束。',
  holders: '许可持有者',
  noWorkers: '没有存活的工作进程。',
  host: '主机',
  process: '进程 {x}',
  lastSeen: '{x} 前活跃',
  since: '已 {x}',
  of: '{x} / {y}',
  idle: '空闲',
  limit: '上限',
  inUse: '使用中',
  set: '设置',
  remove: '取消限制',
  pause: '暂停',
  resume: '恢复',
  previewMore: '最多 {x} 个等待中的任务会立即开始。',
  previewNone: '没有等待的任务，不会立即开始新任务。',
  previewLess: '运行中的任务会完成；运行数少于 {x} 时才开始新任务。',
  previewFree: '工作进程能容纳多少就运行多少。',
  permits: '使用中的许可',
  expires: '租约至 {x}',
  nobody: '没有人持有许可。',
  chooseType: '选择类型',
  options: '选项',
  priority: '优先级（0–9）',
  delay: '延迟（秒、90s、1h30m）',
  maxRetry: '重试次数',
  processTimeout: '运行超时（秒）',
  tagsField: '标签（键:值，用逗号分隔）',
  key: '幂等键',
  asJson: 'JSON 编辑',
  asForm: '表单编辑',
  badJson: '不是有效的 JSON：{x}',
  submitted: '已提交：',
  default: '默认',
  login: '登录',
  logIn: '登录',
  logOut: '退出登录',
  apiKey: 'API 密钥',
  loginHint: '创建密钥：xqueue keys create NAME --scopes read,submit',
  notAllowed: '此密钥无权查看这里的内容。',
  group: '分组',
  worker: '工作进程',
  priorityOf: '优先级',
  deliveries: '派发次数',
  createdAt: '提交时间',
  runAt: '计划时间',
  waited: '等待了',
  ran: '运行了',
  queueTimeout: '最长等待',
  runTimeout: '最长运行',
  timeoutReason: '超时',
  whileWaiting: '等待时',
  whileRunning: '运行时',
  eachGroup: '每组 {x} 个',
  rateOf: '每 {y} 启动 {x} 个',
}

const STORED = 'xqueue.language'
export type Language = 'en' | 'zh'
let language: Language =
  (localStorage.getItem(STORED) as Language | null) ?? (navigator.language.startsWith('zh') ? 'zh' : 'en')
let redraw: () => void = () => undefined

/** The page's root asks once: it is drawn again when another language is chosen. */
export function useLanguage(): Language {
  const [, draw] = useState(0)
  redraw = () => draw((n) => n + 1)
  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en'
  return language
}

export function switchLanguage(): void {
  language = language === 'zh' ? 'en' : 'zh'
  localStorage.setItem(STORED, language)
  redraw()
}

export function say(word: Word, x: string | number = '', y: string | number = ''): string {
  return (language === 'zh' ? zh : en)[word].replace('{x}', String(x)).replace('{y}', String(y))
}

export function number(value: number, digits = 0): string {
  return value.toLocaleString(language === 'zh' ? 'zh-CN' : 'en', { maximumFractionDigits: digits })
}

export function time(iso: string | null): string {
  return iso === null ? '–' : new Date(iso).toLocaleTimeString(language === 'zh' ? 'zh-CN' : 'en-GB')
}

/** With milliseconds, for what happens quickly. */
export function instant(iso: string): string {
  return `${time(iso)}.${iso.slice(20, 23)}`
}

export function moment(iso: string): string {
  const date = new Date(iso)
  return `${date.toLocaleString(language === 'zh' ? 'zh-CN' : 'en-GB')}.${iso.slice(20, 23)}`
}

const UNITS = {
  en: { us: 'µs', ms: 'ms', s: 's', min: 'min', h: 'h', d: 'd' },
  zh: { us: '微秒', ms: '毫秒', s: '秒', min: '分', h: '小时', d: '天' },
}

/** Seconds in the unit that reads best. */
export function duration(seconds: number): string {
  const unit = UNITS[language]
  if (seconds > 0 && seconds < 0.001) return `${number(seconds * 1e6)} ${unit.us}`
  if (seconds < 1) return `${number(seconds * 1_000)} ${unit.ms}`
  if (seconds < 60) return `${number(seconds, 1)} ${unit.s}`
  if (seconds < 3_600) return twoUnits(seconds / 60, unit.min, seconds % 60, unit.s)
  if (seconds < 172_800) return twoUnits(seconds / 3_600, unit.h, (seconds % 3_600) / 60, unit.min)
  return twoUnits(seconds / 86_400, unit.d, (seconds % 86_400) / 3_600, unit.h)
}

/** The smaller one only where there is any of it. */
function twoUnits(large: number, unit: string, small: number, smaller: string): string {
  const rest = Math.floor(small)
  return `${Math.floor(large)} ${unit}${rest === 0 ? '' : ` ${rest} ${smaller}`}`
}
