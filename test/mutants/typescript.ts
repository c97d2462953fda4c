import { parseSync } from 'vite'
import { withInserted } from './inserted.ts'
import type { Change } from './mutants.ts'

// biome-ignore lint/suspicious/noExplicitAny: a node of any kind, see https://github.com/estree/estree
type Node = any

interface Place {
  start: number
  end: number
}

const TYPES = /^(?:TS(?!As|NonNull|Satisfies)|Import|Export(?:All|Specifier))/

const BINARY: Readonly<Record<string, string>> = {
  '<': '<=',
  '<=': '<',
  '>': '>=',
  '>=': '>',
  '===': '!==',
  '!==': '===',
  '+': '-',
  '-': '+',
  '*': '/',
  '/': '*',
  '%': '*',
  '&&': '||',
  '||': '&&',
  '??': '&&',
}
const ASSIGNMENTS: Readonly<Record<string, string>> = { '+=': '-=', '-=': '+=', '??=': '=', '||=': '=' }
/** What only helps people who look on: its absence is no fault of the queue. */
const UNTESTED = /^(?:void )?[\w.#]*\b(?:log|logger)\b.*\.(?:trace|debug|info|warn|error)\(|\.unref\(\)$/

/** The mutants of a module, by the operators that are usual. */
export function mutantsOfTypeScript(text: string): Change[] {
  const found: Change[] = []
  visit(text, (node, within, parent) => {
    for (const [operator, { start, end }, to] of OPERATORS[node.type]?.(node, parent, text) ?? []) {
      if (text.slice(start, end) !== to) found.push({ within, operator, start, end, to })
    }
  })
  return found
}

/** The module with a mark in each function, which tells that it runs; see hits.ts. */
export function withHits(text: string, file: string): string {
  const inserted: [at: number, text: string][] = []
  let first: number | undefined
  visit(text, (node, within, parent) => {
    const hit = (name: string) => `globalThis.__hit?.('${file}#${name}')`
    if (parent?.type === 'Program' && !/^Import/.test(node.type) && first === undefined) {
      first = node.start as number
      inserted.push([first, `;${hit('module')};`])
    }
    if (!/Function/.test(node.type) || !node.body) return
    const { type, start, end } = node.body
    if (type === 'BlockStatement' || type === 'FunctionBody') inserted.push([start + 1, `${hit(within)};`])
    else inserted.push([start, `(${hit(within)},`], [end, ')'])
  })
  return withInserted(text, inserted)
}

/** Calls `see` for each node of the code; types are left out. */
function visit(text: string, see: (node: Node, within: string, parent: Node) => void): void {
  const walk = (node: Node, name: string, parent: Node): void => {
    if (Array.isArray(node)) {
      for (const one of node) walk(one, name, parent)
      return
    }
    if (!node || typeof node.type !== 'string' || TYPES.test(node.type)) return
    const within = nameOf(node, parent) ?? name
    see(node, within, parent)
    for (const [key, child] of Object.entries(node)) {
      if (child && typeof child === 'object' && !/^type[AP]/.test(key)) walk(child, within, node)
    }
  }
  walk(parseSync('module.ts', text).program, 'module', null)
}

type Found = [operator: string, place: Place, to: string]

const condition = ({ test }: Node): Found[] => [
  ['condition true', test, 'true'],
  ['condition false', test, 'false'],
]
/** A condition that is always true would not end. */
const loop = ({ test }: Node): Found[] => (test ? [['condition false', test, 'false']] : [])

function operation({ operator, left, right }: Node, _parent: Node, text: string): Found[] {
  const to = BINARY[operator]
  const sides: Node[] = [left, right]
  const isText = (side: Node) => side.type === 'TemplateLiteral' || typeof side.value === 'string'
  if (!to || (operator === '+' && sides.some(isText))) return []
  const compared = /^[=!]==$/.test(operator) ? sides.filter((side) => typeof side.value === 'string') : []
  return [
    [`${operator} to ${to}`, placeOf(operator, text, left.end), to],
    ...compared.map((side): Found => ['empty text', side, "''"]),
  ]
}

function statement(node: Node, _parent: Node, text: string): Found[] {
  const { type, argument, operator } = node.expression
  const code = text.slice(node.start, node.end)
  const called = type === 'AwaitExpression' || operator === 'void' ? argument : node.expression
  const isTested = called.type === 'CallExpression' && !UNTESTED.test(code) && !code.startsWith('super(')
  return isTested ? [['no call', node, ';']] : []
}

function awaited(node: Node, parent: Node, text: string): Found[] {
  const code = text.slice(node.argument.start, node.argument.end)
  return [['no await', node, parent.type === 'ExpressionStatement' ? `void ${code}` : code]]
}

function optional(node: Node, _parent: Node, text: string): Found[] {
  if (!node.optional) return []
  return [['no ?.', placeOf('?.', text, (node.object ?? node.callee).end), node.computed || node.callee ? '!' : '!.']]
}

function assignment({ operator, left }: Node, _parent: Node, text: string): Found[] {
  const to = ASSIGNMENTS[operator]
  return to ? [[`${operator} to ${to}`, placeOf(operator, text, left.end), to]] : []
}

/** The operators, by the kind of node. */
const OPERATORS: Readonly<Record<string, (node: Node, parent: Node, text: string) => Found[]>> = {
  IfStatement: condition,
  ConditionalExpression: condition,
  WhileStatement: loop,
  ForStatement: loop,
  BinaryExpression: operation,
  LogicalExpression: operation,
  AssignmentExpression: assignment,
  ExpressionStatement: statement,
  AwaitExpression: awaited,
  MemberExpression: optional,
  CallExpression: optional,
  ThrowStatement: (node) => [['no throw', node, ';']],
  // The literals `false` and `null` are changed as such, or mean the same, as `undefined` does.
  ReturnStatement: ({ argument }) =>
    !argument || /^(?:false|null|undefined)$/.test(argument.raw ?? argument.name ?? '')
      ? []
      : [['no result', argument, 'undefined as never']],
  Literal: (node) => (typeof node.value === 'boolean' ? [['literal', node, String(!node.value)]] : []),
  UnaryExpression: ({ operator, argument, ...node }, parent, text) =>
    operator !== '!' || parent.type === 'IfStatement'
      ? []
      : [['no negation', node as Place, text.slice(argument.start, argument.end)]],
}

function placeOf(operator: string, text: string, from: number): Place {
  const start = text.indexOf(operator, from)
  return { start, end: start + operator.length }
}

function nameOf(node: Node, parent: Node): string | undefined {
  switch (node.type) {
    case 'FunctionDeclaration':
      return node.id?.name
    case 'MethodDefinition':
    case 'PropertyDefinition':
      return node.key.name
    case 'VariableDeclarator':
      return parent?.declarations && node.id.name && /Function|Object|Array/.test(node.init?.type ?? '')
        ? node.id.name
        : undefined
    default:
      return undefined
  }
}
