import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** One rule broken on purpose. `from` stands exactly once in what the engine is made of, wherever that is. */
export interface Mutation {
  engine: keyof typeof SOURCES
  rule: string
  from: string
  to: string
}

const SOURCES = {
  SQLite: 'src/{task,store/sqlite}/**/*.{ts,sql}',
  Redis: 'src/store/redis/lua/*.lua',
}

/** The file, of a tree, that has the place. @throws Error naming the mutation when it is not there exactly once */
export function fileOf({ engine, rule, from }: Mutation, tree: string): string {
  const texts = globSync(SOURCES[engine], { cwd: tree }).map((file) => ({
    file,
    text: readFileSync(join(tree, file), 'utf8'),
  }))
  const found = texts.flatMap(({ file, text }) => Array.from({ length: text.split(from).length - 1 }, () => file))
  if (found.length === 1) return join(tree, found[0]!)
  throw new Error(`${engine}, ${rule}: its place is there ${found.length} times, and must be once: ${from}`)
}

const sqlite = (rule: string, from: string, to: string): Mutation => ({ engine: 'SQLite', rule, from, to })
const redis = (rule: string, from: string, to: string): Mutation => ({ engine: 'Redis', rule, from, to })

export const MUTATIONS: readonly Mutation[] = [
  sqlite('the limit holds', ': maxConcurrency - (database', ': 1 + maxConcurrency - (store'),
  sqlite('the limit of a group holds', 'limit - (row.in_flight', 'limit + 1 - (row.in_flight'),
  sqlite('a rate holds', 'return max - (this', 'return max + 1 - (this'),
  sqlite('a paused type starts nothing', '(type)?.paused === false)\n', '(type)?.paused !== undefined)\n'),
  sqlite(
    'higher priority goes first',
    "'pending' AND type = ?\nORDER BY priority DESC, run_at, seq LIMIT",
    "'pending' AND type = ?\nORDER BY priority, run_at, seq LIMIT",
  ),
  sqlite(
    'older goes first',
    "'pending' AND type = ?\nORDER BY priority DESC, run_at, seq LIMIT",
    "'pending' AND type = ?\nORDER BY priority DESC, run_at DESC, seq DESC LIMIT",
  ),
  sqlite('groups take turns', "for (const key of ['served', ", 'for (const key of ['),
  sqlite('the fence is compared', 'AND deliveries = ?12', 'AND ?12 = ?12'),
  sqlite('what has ended is not settled again', 'AND status = ?11', 'AND ?11 = ?11'),
  sqlite('the outcome of a lost lease is refused', 'accepted: false, status: null', 'accepted: true, status: null'),
  sqlite('a permit comes back with its lease', '(expires_at <= ?1 OR deadline', '(deadline'),
  sqlite('a renewal renews', "run('renewLease', expiresAt,", "run('renewLease', tx.now,"),
  sqlite(
    'a lost lease costs no attempt',
    "{ ...same, lostLeases, status: 'pending' }",
    "{ ...ended, lostLeases, status: 'pending' }",
  ),
  sqlite('poison ends', 'if (lostLeases < policy.lostLeasesMax)', 'if (lostLeases > 0)'),
  sqlite('an attempt ends at its deadline', ' OR deadline_at <= ?1 OR', ' OR'),
  sqlite('a result after the deadline is refused', 'now >= task.deadlineAt', 'now < 0'),
  sqlite('a wait ends at its deadline', 'AND deadline_at <= ? ORDER', 'AND deadline_at + 1000 <= ? ORDER'),
  sqlite('a delayed task does not start early', ": runAt > now ? 'delayed'", ": runAt < 0 ? 'delayed'"),
  sqlite('retries end', 'ended.attempts <= task.maxRetry', 'ended.attempts >= 0'),
  sqlite('a released task costs nothing', "{ ...same, status: 'pending' }", "{ ...ended, status: 'pending' }"),
  sqlite('a canceled task ends as canceled', 'if (task.cancelRequested)', 'if (task.attempts < 0)'),
  sqlite('a running handler is told of a cancel', '      tx.canceledWorkers.add(state.workerId!)\n', ''),
  sqlite('a cancel ends after its grace', ' OR cancel_at <= ?1 - ?2)', ' OR ?2 < 0)'),
  sqlite(
    'a change writes its event',
    'tx.addEvent(eventBody({ taskId: id, type, status, attempts, progress,',
    'void (({ taskId: id, type, status, attempts, progress,',
  ),
  sqlite(
    'a start writes its event',
    "      tx.addEvent(eventBody({ taskId: id, type, status: 'processing', attempts, workerId }))\n",
    '',
  ),
  sqlite('a known key answers its task', 'if (key === null) return\n', 'if (key !== undefined) return\n'),
  sqlite('a known key with another body is refused', '!isSameRequest(request, spec)', 'request === null'),
  sqlite(
    'unknown types are refused',
    'if (unknown.size > 0) throw unknownTypes',
    'if (unknown.size > 9) throw unknownTypes',
  ),
  sqlite(
    'a flow: unknown tasks are refused',
    'size > 0) throw unknownPredecessors',
    'size > 9) throw unknownPredecessors',
  ),
  sqlite('a flow: all are waited for', '} else if (!this.#awaits(seq as number)) decided', '} else decided'),
  sqlite('a flow: a failure cancels', "failed: 'cancels'", "failed: 'waits'"),
  sqlite('a flow: results are handed on', 'state.depends ? this.#flows.predecessors(state.seq) : NONE', 'NONE'),
  sqlite('a flow: an end is told', '(tx, this.#flows.ended(tx, this.#ended[at]!))', '(tx, [])'),
  sqlite('a flow: nobody waits for what is gone', 'this.#transitions.decide(tx, decided)\n', ''),
  sqlite('a full queue refuses', 'waiting + more > pendingMax', 'waiting + more > pendingMax + 1'),
  sqlite(
    'retention keeps what has not finished',
    'WHERE completed_at IS NOT NULL AND keep_until IS NULL ORDER',
    'WHERE keep_until IS NULL ORDER',
  ),
  sqlite('retention of a type holds', 'keptMs === undefined ? null : now + keptMs', 'null'),
  sqlite(
    'retention tells what it removes',
    "    tx.addEvent(eventBody({ kind: 'removed', taskId: id, type, ...last }))\n",
    '',
  ),
  sqlite('what is removed is not told again', 'if (removed.length === 0) return', 'if (removed.length < 1e9) return'),
  sqlite('only what has finished is erased', '        if (!isFinal(status)) {\n', '        if (!status) {\n'),
  sqlite('success is not retried', "RETRYABLE_STATUSES = ['failed'", "RETRYABLE_STATUSES = ['success', 'failed'"),
  sqlite('a reader holds its place alone', 'row.owner !== owner && ', 'row.owner === owner && '),
  sqlite('whoever waits is woken', '    tx.touchedTypes.add(held.type)\n', ''),

  redis('the limit holds', "limit - call('ZCARD'", "limit + 1 - call('ZCARD'"),
  redis('the limit of a group holds', '< group_limit then return false', '<= group_limit then return false'),
  redis('a rate holds', 'return max - sum', 'return max + 1 - sum'),
  redis('a paused type starts nothing', "paused == '1' and 0 or want", "paused == '2' and 0 or want"),
  redis('higher priority goes first', 'for digit = 9, 0, -1 do', 'for digit = 0, 9 do'),
  redis('groups take turns', '= position, group', "= '0', group"),
  redis('the fence is compared', 'l.fence ~= o.fence then return LOST', 'l.fence == nil then return LOST'),
  redis('what has ended is not settled again', "  many('HDEL', P .. KEY.leases, ended)\n", ''),
  redis(
    'a permit comes back with its lease',
    "  for kind, refs in pairs(ended_of) do many('ZREM', P .. KEY.running .. kind, refs) end\n",
    '',
  ),
  redis('a lost lease is found', "ZRANGEBYSCORE', running, '-inf', NOW,", "ZRANGEBYSCORE', running, '-inf', '0',"),
  redis(
    'a renewal renews',
    "then l.progress = '1' end\n  call('HSET', P .. KEY.leases, ref, join_lease(l))\n",
    "then l.progress = '1' end\n",
  ),
  redis('an attempt ends at its deadline', 'if deadline > 0 and deadline < due then due = deadline end', ''),
  redis('a result after the deadline is refused', 'and now >= tonumber(l.deadline)', 'and now < 0'),
  redis('a wait ends at its deadline', "head.started == '0' then", "head.started == '2' then"),
  redis('a delayed task does not start early', 'if run_at > ms then', 'if run_at < 0 then'),
  redis(
    'a delayed task starts at its time',
    "'-inf', NOW, 'LIMIT', 0, max)\n  for _, ref in ipairs(due) do\n    local lane",
    "'-inf', '0', 'LIMIT', 0, max)\n  for _, ref in ipairs(due) do\n    local lane",
  ),
  redis(
    'a running handler is told of a cancel',
    "    call('SADD', P .. KEY.cancels .. worker, ref .. '.' .. l.fence)\n",
    '',
  ),
  redis(
    'a decision on an old state is taken back',
    "then return CHANGED end\n  if o.status == 'success'",
    "then return LOST end\n  if o.status == 'success'",
  ),
  redis(
    'a change writes its event',
    '  add_task_event(o.status, lane, l, progress, o.result, o.error, o.reason)\n',
    '',
  ),
  redis('a success writes its event', '    add_success_events(turn)\n', ''),
  redis('a known key answers its task', '      earlier[index] = ref\n', ''),
  redis('a known key with another body is refused', 'if request ~= task.request then', 'if request == nil then'),
  redis('a flow: unknown tasks are refused', "if name == '?' or (is_here and", "if name == '?' and (is_here and"),
  redis('a flow: all are waited for', "'#', -1) == 0 then", "'#', -1) >= 0 then"),
  redis('a flow: a failure cancels', 'local effects = EFFECTS[policy]', 'local effects = EFFECTS.w'),
  redis('a flow: results are handed on', "return '[' .. table.concat(outcomes, ',') .. ']'", "return ''"),
  redis('a flow: an end is told', 'while followed < #to_follow do', 'while followed > #to_follow do'),
  redis('a flow: what is awaited is looked at again', '  recheck_awaited()\n', ''),
  redis('unknown types are refused', 'if #unknown > 0 then return', 'if #unknown > 9 then return'),
  redis('a full queue refuses', 'waiting + fresh > pending_max', 'waiting + fresh > pending_max + 1'),
  redis('what is removed is not told again', '  note_removed(tonumber(ended_at))\n', ''),
  redis(
    'only what has finished is erased',
    "if found ~= 'F' then return { 'refused' }",
    "if found == 'Q' then return { 'refused' }",
  ),
  redis('retention of a type holds', "own and string.format('%s %d', status, own) or status", 'status'),
  redis('retention forgets by count', 'kept - retention_count < #refs and', 'kept >= 0 and'),
  redis(
    'retention tells what it removes',
    '  event(1, string.format(\'["removed"',
    '  string.len(string.format(\'["removed"',
  ),
  redis('success is not retried', 'if not (status and retryable[status]) then', 'if not status then'),
  redis('a reader holds its place alone', 'and tonumber(expires) > now then', 'and tonumber(expires) < 0 then'),
  redis('whoever waits is woken', 'then wake(lane.type, 1) end', 'then end'),
  redis(
    'a state that has lost something takes nothing',
    "if arg() == '1' and not is_restored() then return 'incomplete' end\n  mode",
    "if arg() == '2' then return 'incomplete' end\n  mode",
  ),
  redis(
    'a lost position is not given again',
    'local first = math.max(before, now * 1000)',
    'local first = math.max(before, 1)',
  ),
]
