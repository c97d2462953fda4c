/** One rule broken on purpose. `from` stands exactly once in the file. */
export interface Mutation {
  engine: 'SQLite' | 'Redis'
  rule: string
  file: string
  from: string
  to: string
}

const sqlite = (rule: string, file: string, from: string, to: string): Mutation => ({
  engine: 'SQLite',
  rule,
  file: `src/${file}`,
  from,
  to,
})
const redis = (rule: string, file: string, from: string, to: string): Mutation => ({
  engine: 'Redis',
  rule,
  file: `src/engine/redis/lua/${file}.lua`,
  from,
  to,
})

const LIFE = 'engine/sqlite/life.ts'
const TASKS = 'engine/sqlite/sql/tasks.sql'
const LEASES = 'engine/sqlite/sql/leases.sql'
const SUBMIT = 'engine/sqlite/submit.ts'
const OUTCOME = 'task/outcome.ts'

export const MUTATIONS: readonly Mutation[] = [
  sqlite('the limit holds', LIFE, ': maxConcurrency - (store', ': 1 + maxConcurrency - (store'),
  sqlite('the limit of a group holds', 'engine/sqlite/ring.ts', 'limit - (row.in_flight', 'limit + 1 - (row.in_flight'),
  sqlite('a rate holds', 'engine/sqlite/rate-log.ts', 'return max - (this', 'return max + 1 - (this'),
  sqlite('a paused type starts nothing', LIFE, '(type)?.paused === false)\n', '(type)?.paused !== undefined)\n'),
  sqlite('higher priority goes first', TASKS, 'priority DESC, run_at, seq LIMIT', 'priority, run_at, seq LIMIT'),
  sqlite('older goes first', TASKS, 'priority DESC, run_at, seq LIMIT', 'priority DESC, run_at DESC, seq DESC LIMIT'),
  sqlite('groups take turns', 'engine/sqlite/ring.ts', "for (const key of ['served', ", 'for (const key of ['),
  sqlite('the fence is compared', TASKS, 'AND deliveries = ?12', 'AND ?12 = ?12'),
  sqlite('what has ended is not settled again', TASKS, 'AND status = ?11', 'AND ?11 = ?11'),
  sqlite(
    'the outcome of a lost lease is refused',
    LIFE,
    'accepted: false, status: null',
    'accepted: true, status: null',
  ),
  sqlite('a permit comes back with its lease', LEASES, '(expires_at <= ?1 OR deadline', '(deadline'),
  sqlite('a renewal renews', LIFE, "run('renewLease', expiresAt,", "run('renewLease', tx.now,"),
  sqlite(
    'a lost lease costs no attempt',
    OUTCOME,
    "{ ...same, lostLeases, status: 'pending' }",
    "{ ...ended, lostLeases, status: 'pending' }",
  ),
  sqlite('poison ends', OUTCOME, 'if (lostLeases < policy.lostLeasesMax)', 'if (lostLeases > 0)'),
  sqlite('an attempt ends at its deadline', LEASES, ' OR deadline_at <= ?1 OR', ' OR'),
  sqlite('a result after the deadline is refused', OUTCOME, 'now >= task.deadlineAt', 'now < 0'),
  sqlite('a wait ends at its deadline', TASKS, 'AND deadline_at <= ? ORDER', 'AND deadline_at + 1000 <= ? ORDER'),
  sqlite('a delayed task does not start early', SUBMIT, "runAt > now ? 'delayed'", "runAt < 0 ? 'delayed'"),
  sqlite('retries end', OUTCOME, 'ended.attempts <= task.maxRetry', 'ended.attempts >= 0'),
  sqlite('a released task costs nothing', OUTCOME, "{ ...same, status: 'pending' }", "{ ...ended, status: 'pending' }"),
  sqlite('a canceled task ends as canceled', OUTCOME, 'if (task.cancelRequested)', 'if (task.attempts < 0)'),
  sqlite('a running handler is told of a cancel', LIFE, '      tx.canceledWorkers.add(state.workerId!)\n', ''),
  sqlite('a cancel ends after its grace', LEASES, ' OR cancel_at <= ?1 - ?2)', ' OR ?2 < 0)'),
  sqlite(
    'a change writes its event',
    LIFE,
    'tx.addEvent(eventBody({ taskId: id, type, status, attempts, progress,',
    'void (({ taskId: id, type, status, attempts, progress,',
  ),
  sqlite(
    'a start writes its event',
    LIFE,
    "      tx.addEvent(eventBody({ taskId: id, type, status: 'processing', attempts, workerId }))\n",
    '',
  ),
  sqlite('a known key answers its task', SUBMIT, 'if (key === null) return\n', 'if (key !== undefined) return\n'),
  sqlite('a known key with another body is refused', SUBMIT, 'request !== sameRequest(spec)', 'request === null'),
  sqlite('unknown types are refused', SUBMIT, 'if (unknown.size > 0) throw', 'if (unknown.size > 9) throw'),
  sqlite('a full queue refuses', SUBMIT, 'waiting + more > pendingMax', 'waiting + more > pendingMax + 1'),
  sqlite('retention keeps what has not finished', TASKS, 'WHERE completed_at IS NOT NULL\n', ''),
  sqlite(
    'retention tells what it removes',
    LIFE,
    "      tx.addEvent(eventBody({ kind: 'removed', taskId: id, type, ...last }))\n",
    '',
  ),
  sqlite(
    'success is not retried',
    'task/status.ts',
    "['failed', 'canceled', 'timeout']",
    "['success', 'failed', 'canceled', 'timeout']",
  ),
  sqlite(
    'a reader holds its place alone',
    'engine/sqlite/outbox.ts',
    'row.owner !== owner && ',
    'row.owner === owner && ',
  ),
  sqlite('whoever waits is woken', LIFE, '    tx.touchedTypes.add(held.type)\n', ''),

  redis('the limit holds', 'turn', "limit - call('ZCARD'", "limit + 1 - call('ZCARD'"),
  redis('the limit of a group holds', 'turn', '>= group_limit then', '> group_limit then'),
  redis('a rate holds', 'turn', 'return max - sum', 'return max + 1 - sum'),
  redis('a paused type starts nothing', 'turn', "paused == '1' and 0 or want", "paused == '2' and 0 or want"),
  redis('higher priority goes first', 'turn', 'for digit = 9, 0, -1 do', 'for digit = 0, 9 do'),
  redis('groups take turns', 'turn', '    if started > 0 then served(part) end\n', ''),
  redis('the fence is compared', 'turn', 'l.fence ~= o.fence then return LOST', 'l.fence == nil then return LOST'),
  redis('what has ended is not settled again', 'turn', "  many('HDEL', P .. KEY.leases, ended)\n", ''),
  redis(
    'a permit comes back with its lease',
    'turn',
    "  for kind, refs in pairs(ended_of) do many('ZREM', P .. KEY.running .. kind, refs) end\n",
    '',
  ),
  redis(
    'a lost lease is found',
    'sweep',
    "ZRANGEBYSCORE', running, '-inf', NOW,",
    "ZRANGEBYSCORE', running, '-inf', '0',",
  ),
  redis('a renewal renews', 'turn', "  call('HSET', P .. KEY.leases, ref, join_lease(l))\n", ''),
  redis('an attempt ends at its deadline', 'shared', 'if deadline > 0 and deadline < due then due = deadline end', ''),
  redis('a result after the deadline is refused', 'turn', 'and now >= tonumber(l.deadline)', 'and now < 0'),
  redis('a wait ends at its deadline', 'sweep', "head.started == '0' then", "head.started == '2' then"),
  redis('a delayed task does not start early', 'submit', 'if run_at > ms then', 'if run_at < 0 then'),
  redis(
    'a delayed task starts at its time',
    'shared',
    "'-inf', NOW, 'LIMIT', 0, max)\n  for _, ref in ipairs(due) do\n    local lane",
    "'-inf', '0', 'LIMIT', 0, max)\n  for _, ref in ipairs(due) do\n    local lane",
  ),
  redis(
    'a running handler is told of a cancel',
    'change',
    "    call('SADD', P .. KEY.cancels .. worker, ref .. '.' .. l.fence)\n",
    '',
  ),
  redis(
    'a decision on an old state is taken back',
    'turn',
    "then return CHANGED end\n  if o.status == 'success'",
    "then return LOST end\n  if o.status == 'success'",
  ),
  redis('a change writes its event', 'turn', '  tell(o.status, lane, l, progress, o.result, o.error, o.reason)\n', ''),
  redis('a success writes its event', 'turn', '    tell_succeeded(turn)\n', ''),
  redis('a known key answers its task', 'submit', '      earlier[index] = ref\n', ''),
  redis(
    'a known key with another body is refused',
    'submit',
    'if request ~= task.request then',
    'if request == nil then',
  ),
  redis('unknown types are refused', 'submit', 'if #unknown > 0 then return', 'if #unknown > 9 then return'),
  redis('a full queue refuses', 'submit', 'waiting + fresh > pending_max', 'waiting + fresh > pending_max + 1'),
  redis('retention forgets by count', 'sweep', 'kept - retention_count < #refs and', 'kept >= 0 and'),
  redis(
    'retention tells what it removes',
    'sweep',
    '        event(1, string.format(\'["removed"',
    '        string.len(string.format(\'["removed"',
  ),
  redis(
    'success is not retried',
    'change',
    "if status ~= 'failed' and status",
    "if status ~= 'success' and status ~= 'failed' and status",
  ),
  redis(
    'a reader holds its place alone',
    'reader',
    'and tonumber(expires) > now then',
    'and tonumber(expires) < 0 then',
  ),
  redis('whoever waits is woken', 'submit', 'then wake(lane.type, 1) end', 'then end'),
]
