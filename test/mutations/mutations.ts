import { globSync, readFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import { definitionsOf } from './definitions.ts'

/**
 * One rule broken on purpose. `from` matches exactly once in the functions, methods, constants and SQL statements named
 * `within`, in any file. Patterns name what is stable (columns, keys, statements, words of the domain);
 * variables are `(\w+)`, which `to` repeats as `$1`, so that a renamed variable or a moved function breaks nothing.
 */
export interface Mutation {
  store: keyof typeof SOURCES
  rule: string
  within: string
  from: RegExp
  to: string
}

const SOURCES = {
  SQLite: ['src/{task,queue}/**/*.ts', 'src/store/*.ts', 'src/store/sqlite/**/*.{ts,sql}'],
  Redis: ['src/store/redis/**/*.{ts,lua}', 'src/task/**/*.ts'],
}

export interface Place {
  path: string
  before: string
  after: string
}

/** The file of a tree with the place, before and after the mutation. @throws Error unless there is exactly one place */
export function placeOf({ store, rule, within, from, to }: Mutation, tree: string): Place {
  const places = globSync(SOURCES[store], { cwd: tree }).flatMap((file) => {
    const path = join(tree, file)
    const text = readFileSync(path, 'utf8')
    const definitions = definitionsOf(text, extname(file).slice(1) as 'ts' | 'lua' | 'sql')
    return definitions
      .filter(({ name }) => name === within)
      .flatMap(({ start, end }) => {
        const body = text.slice(start, end)
        const count = [...body.matchAll(new RegExp(from.source, `${from.flags}g`))].length
        const after = text.slice(0, start) + body.replace(from, to) + text.slice(end)
        return Array.from({ length: count }, () => ({ path, before: text, after }))
      })
  })
  if (places.length === 1) return places[0]!
  throw new Error(`${store}, ${rule}: ${from} is ${places.length} times in \`${within}\`, and must be once`)
}

type Entry = [rule: string, within: string, from: RegExp, to: string]

const SQLITE: readonly Entry[] = [
  ['the limit holds', 'permits', /: (\w+) - \((\w+)\.get\('inFlight'/, ": 1 + $1 - ($2.get('inFlight'"],
  ['the limit of a group holds', 'takeFrom', /(\w+) - \(row\.in_flight/, '$1 + 1 - (row.in_flight'],
  ['a rate holds', 'allows', /return (\w+) - /, 'return $1 + 1 - '],
  ['a paused type starts nothing', 'isOpen', /!rules\.paused && /, ''],
  ['a held type starts nothing', 'isOpen', / && \(rules\.heldUntil \?\? 0\) <= now/, ''],
  [
    'higher priority goes first',
    'heads',
    /task_group = ''[^;]*?priority DESC/,
    "task_group = '' AND status = 'pending' AND type = ?\nORDER BY priority",
  ],
  ['older goes first', 'heads', /run_at, seq LIMIT/, 'run_at DESC, seq DESC LIMIT'],
  ['groups take turns', 'byTurn', /'served', /, ''],
  ['running time: what ran counts', 'addTime', /served \+ \?4 - /, 'served + 1 - '],
  ['running time: starts count in advance', 'positionsOf', /\w+ \+ \w+ \* expected/, '1 + 1'],
  ['running time: a rest gives no credit', 'ringJoin', /THEN max\(served, /, 'THEN min(served, '],
  ['running time: what was used is kept', 'ringDropEmpty', /c\.at < ring\.served/, 'false'],
  ['the fence is compared', 'settle', /deliveries = \?12/, '?12 = ?12'],
  ['what has ended is not settled again', 'settle', /status = \?11/, '?11 = ?11'],
  ['the outcome of a lost lease is refused', 'settle', /accepted: false, status: null/, 'accepted: true, status: null'],
  ['a permit comes back with its lease', 'dueLeases', /expires_at <= \?1 OR deadline_at/, 'deadline_at'],
  ['a renewal renews', 'renew', /run\('renewLease', \w+,/, "run('renewLease', tx.now,"],
  ['a lost lease costs no attempt', 'settle', /\.\.\.same, (lostLeases, status: 'pending')/, '...ended, $1'],
  ['poison ends', 'settle', /lostLeases < policy\.lostLeasesMax/, 'lostLeases > 0'],
  ['an attempt ends at its deadline', 'dueLeases', / OR deadline_at <= \?1/, ''],
  ['a result after the deadline is refused', 'settle', /now >= task\.deadlineAt/, 'now < 0'],
  ['a wait ends at its deadline', 'waitedTooLong', /deadline_at <= \?/, 'deadline_at + 1000 <= ?'],
  ['a filter by time begins at its first time', 'conditions', /t\.created_at >= \?/, 't.created_at > ?'],
  ['a filter by time ends before its last time', 'conditions', /t\.created_at < \?/, 't.created_at <= ?'],
  ['a filter by error takes letters of any case', 'conditions', /lower\(\?\)/, '?'],
  ['a delayed task does not start early', 'insert', /runAt > now \? 'delayed'/, "runAt < 0 ? 'delayed'"],
  ['retries end', 'settle', /ended\.attempts <= task\.maxRetry/, 'ended.attempts >= 0'],
  ['a released task costs nothing', 'settle', /\.\.\.same, (status: 'pending', attempt: 'released')/, '...ended, $1'],
  ['a hold costs nothing', 'settle', /\.\.\.same, (status: 'pending', attempt: 'held')/, '...ended, $1'],
  ['a canceled task ends as canceled', 'settle', /if \(task\.cancelRequested\)/, 'if (task.attempts < 0)'],
  ['a running handler is told of a cancel', 'cancel', /\w+\.canceledWorkers\.add\(.*\)/, ''],
  ['a cancel ends after its grace', 'dueLeases', /cancel_at <= \?1 - \?2/, '?2 < 0'],
  ['a change writes its event', 'finish', /\w+\.addEvent\(eventBody\(/, 'void (('],
  ['a start writes its event', 'start', /\w+\.addEvent\(eventBody\(/, 'void (('],
  ['a known key answers its task', 'findEarlier', /if \((\w+) === null\) return\n/, 'if ($1 !== undefined) return\n'],
  ['a known key with another body is refused', 'findEarlier', /!isSameRequest\((\w+), \w+\)/, '$1 === null'],
  ['unknown types are refused', 'refuseUnknownTypes', /size > 0/, 'size > 9'],
  ['a flow: unknown tasks are refused', 'refusePredecessors', /size > 0\) throw/, 'size > 9) throw'],
  ['a flow: all are waited for', 'ended', /else if \(!this\.#awaits\(.*?\)\) /, 'else '],
  ['a flow: a failure cancels', 'FAILURE_POLICIES', /failed: 'cancels'/, "failed: 'waits'"],
  ['a flow: results are handed on', 'start', /\w+\.depends \? .* : NONE/, 'NONE'],
  ['a flow: an end is told', 'follow', /this\.#flows\.ended\(.*!\)/, '[]'],
  ['a flow: nobody waits for what is gone', 'remove', /this\.#transitions\.decide\(.*\)\n/, '\n'],
  ['a full queue refuses', 'refuseOverflow', /(\w+) \+ (\w+) > pendingMax/, '$1 + $2 > pendingMax + 1'],
  ['retention keeps what has not finished', 'oldestFinished', /completed_at IS NOT NULL AND /, ''],
  ['retention of a type holds', 'finish', /(\w+) === undefined \? null : now \+ \1/, 'null'],
  ['retention tells what it removes', 'remove', /\w+\.addEvent\(eventBody\(/, 'void (('],
  ['what is removed is not told again', 'ofKept', /if \((\w+)\.length === 0\) return/, 'if ($1.length < 1e9) return'],
  ['only what has finished is erased', 'erase', /if \(!isFinal\((\w+)\)\)/, 'if (!$1)'],
  ['a change by filter ends although tasks are refused', 'changeMatching', /refused \+ \w+\.length/, 'refused'],
  ['the reason is a limit when it is reached', 'inTheWay', /inUse \+ needs > max/, 'inUse > max'],
  ['success is not retried', 'RETRYABLE_STATUSES', /'failed'/, "'success', 'failed'"],
  ['a reader holds its place alone', 'take', /owner !== (owner) &&/, 'owner === $1 &&'],
  ['a document is compared', 'holds', /text === condition\.text/, 'text !== undefined'],
  ['whoever waits is woken', 'end', /\w+\.touchedTypes\.add\(.*\)/, ''],
  ['a lease is renewed for its own time', 'renew', /state\.leaseMs!/, 'this.#options.leaseMs'],
  ['the grace begins once', 'requestCancel', /ifnull\(cancel_at, \?\)/, '?'],
  ['a retry forgets lost leases', 'restart', /lost_leases = 0, /, ''],
  ['attempts of a worker are told apart', 'end', /settlement\.status === 'success'\)/, 'false)'],
  ['a full queue answers known keys', 'accept', / - earlier\.size/, ''],
  ['a request has tags', 'requestOf', /batch: __, /, 'batch: __, tags: ___, '],
  ['a request has a policy', 'requestOf', /\{ after, onFailure \}/, '{ after }'],
  ['predecessors go with their task', 'remove', /if \(row\.depends === 1\) .*\n/, '\n'],
  ['a rate forgets old starts', 'add', /\S+run\('trimStarts', .*\)/, ''],
  ['calls of unused keys are forgotten', 'count', /this\.forgetIdle\(.*\)/, ''],
  ['gone workers are forgotten', 'forgetWorkers', /\S+run\('dropWorkersUnseen', .*\)/, ''],
  ['empty groups are forgotten', 'do', /groups\.drop\(max\)/, '0'],
  ['a named limit holds', 'room', /max - this\.#inUse\.of/, 'max + 1 - this.#inUse.of'],
  ['a named limit counts units', 'add', /uses\[limit\]! \* /, ''],
  ['the units of a lease return', 'ended', /this\.#inUse\.change\(.*\)/, ''],
  ['the units of other processes count', 'forget', /this\.#inUse\.forget\(\)/, ''],
  ['a freed limit wakes lanes', 'ended', /tx\.freedUses\.add\(uses\)/, ''],
  ['many tasks of a lane take only what its limits have left', 'takeMany', /Math\.min\(tasks, .*\)/, 'tasks'],
  ['a lane that is set aside is not known to be ready', 'served', /this\.#ready\.clear\(\)/, ''],
  ['the rate of a named limit holds', 'started', /if \(rate\) this\.#rateLog\.add\(.*\)/, ''],
  ['a usage corrects the rate', 'ended', /usage\[name\]! - uses\[name\]!/, '0'],
  ['a named limit opens by time', 'block', /if \(until !== null\) .*/, ''],
  ['a limit that was checked is left to others', 'claim', /for \(const name of checked\) .*/, ''],
  ['a lane that lost its first task is checked again', 'finish', /else if \(state\.status === 'pending'\) .*/, ''],
  [
    'a lane takes only what its limits have left',
    'isBlocked',
    /const block = rooms\.take\(.*\)/,
    'const block = null as unknown as { limit: string; need: number; until: null }',
  ],
  ['types together keep to a named limit', 'plan', /rooms\.take\(usesOf\(row\.uses\)\) === null/, 'true'],
  ['a paused limit starts nothing', 'room', /record\.paused \|\| /, ''],
  ['a limit in use is not removed', 'configure', /if \(this\.#isInUse\(name\)\) .*\n/, '\n'],
  ['units that are never free are refused', 'refuseUses', /uses\[name\]! > most/, 'uses[name]! > most + 1'],
  ['a key has the limit of all keys', 'settings', /family === null \? null : this\.#record\(family\)/, 'null'],
]

const REDIS: readonly Entry[] = [
  ['the limit holds', 'rules_of', /(\w+) - call\('ZCARD'/, "$1 + 1 - call('ZCARD'"],
  ['the limit of a group holds', 'is_at_limit', /< (\w+) then return false/, '<= $1 then return false'],
  ['the first limit of a group counts what runs', 'keep', /if group then /, 'if false then '],
  ['a rate holds', 'starts_left', /return (\w+) - /, 'return $1 + 1 - '],
  ['a paused type starts nothing', 'rules_of', /paused == '1'/, "paused == '2'"],
  ['a held type starts nothing', 'apply_hold', /held_until <= step\.now/, 'held_until > 0'],
  ['a longer hold stays', 'hold', /if held_until > tonumber\(.*?\) then/, 'if held_until > 0 then'],
  ['a record of a type is compared', 'configure', /\w+\.digest == digest and/, 'true and'],
  ['higher priority goes first', 'claim_by_priority', /= 1, #DIGITS do/, '= #DIGITS, 1, -1 do'],
  ['groups take turns', 'serve', /= (\w+), group\n/, "= '0', group\n"],
  ['running time: what ran counts', 'ended', /group, ran - expected_of\(pace, of_all\)/, 'group, 0'],
  ['running time: starts count in advance', 'positions', /\(one\.starts or 1\) \* expected/, '0'],
  ['running time: a rest gives no credit', 'from_rest', /math\.max/, 'math.min'],
  ['running time: what was used is kept', 'tidy', /<= clock then/, '>= 0 then'],
  ['the fence is compared', 'try_settle', /(\w+)\.fence ~= \w+\.fence/, '$1.fence == nil'],
  ['what has ended is not settled again', 'clear_ended', /many\('HDEL', \w+(?:\.\w+)? \.\. KEY\.leases, \S+\)/, ''],
  ['a permit comes back with its lease', 'clear_ended', /many\('ZREM', \w+(?:\.\w+)? \.\. KEY\.running .*?\)/, ''],
  ['a lost lease is found', 'read_due_leases', /'-inf', step\.now_text,/, "'-inf', '0',"],
  ['a renewal renews', 'renew', /call\('HSET', \w+(?:\.\w+)? \.\. KEY\.leases, .*\)\n/, '\n'],
  ['an attempt ends at its deadline', 'due_of', /if deadline > 0 and .*\n/, '\n'],
  ['a result after the deadline is refused', 'try_settle', /\w+\.now >= tonumber\(\w+\.deadline_at\)/, 'step.now < 0'],
  ['a wait ends at its deadline', 'end_waits', /started_at == '0'/, "started_at == '2'"],
  ['a delayed task does not start early', 'accept', /if (\w+) > (\w+) then/, 'if $1 < 0 then'],
  ['a delayed task starts at its time', 'promote', /'-inf', step\.now_text,/, "'-inf', '0',"],
  ['a running handler is told of a cancel', 'cancel', /call\('SADD', \w+(?:\.\w+)? \.\. KEY\.cancels .*\)\n/, '\n'],
  [
    'a decision on an old state is taken back',
    'try_settle',
    /(cancel_at ~= '0'\) ~= \(.*?\)) then return CHANGED/,
    '$1 then return LOST',
  ],
  ['a change writes its event', 'settle', /add_task_event\(.*\)\n/, '\n'],
  ['a success writes its event', 'turn', /add_success_events\(.*\)/, ''],
  ['a known key answers its task', 'earlier_of', /(\w+)\[(\w+)\] = ref\n/, '\n'],
  ['a known key with another body is refused', 'earlier_of', /if (request) ~= (\w+)\.request/, 'if $1 == nil'],
  ['a flow: unknown tasks are refused', 'refuse_waiting', /== '\?' or \(/, "== '?' and ("],
  ['a flow: all are waited for', 'receive_outcome', /'#', -1\) == 0/, "'#', -1) >= 0"],
  ['a flow: a failure cancels', 'effect_of', /= (\w+)\[policy\]/, '= $1.w'],
  ['a flow: results are handed on', 'predecessors_of', /return '\[' .*/, "return ''"],
  ['a flow: an end is told', 'follow', /while (\S+) < #/, 'while $1 > #'],
  ['a flow: what is awaited is looked at again', 'sweep', /recheck_awaited\(.*\)/, ''],
  [
    'a flow: a task that a sweep ends is not taken for removed',
    'sweep',
    /write_finished\(\w+\)(\n.*\n.*\n *)write_finished\(\w+\)/,
    '$1',
  ],
  ['unknown types are refused', 'answer_call', /if unknown then/, 'if unknown and unknown[9] then'],
  ['a full queue refuses', 'answer_call', /> (\S+pending_max)/, '> $1 + 1'],
  ['what is removed is not told again', 'remove_finished', /note_removed\(.*\)\n/, '\n'],
  ['only what has finished is erased', 'erase', /(\w+) ~= 'finished'/, "$1 == 'nowhere'"],
  ['retention of a type holds', 'finish', /(\w+) and string\.format\('%s %d', (\w+), \1\) or \2/, '$2'],
  ['retention forgets by count', 'remove_expired', /(\w+) - \S+retention_count < #\w+/, '$1 >= 0'],
  [
    'retention tells what it removes',
    'remove_finished',
    /event\(step, 1, string\.format\('\["removed"/,
    'string.len(string.format(\'["removed"',
  ],
  ['success is not retried', 'retry', /not \((\w+) and retryable\[\1\.status\]\)/, 'not $1'],
  ['a document is compared', 'holds', /text == (\w+)\.was/, 'text ~= $1'],
  ['whoever waits is woken', 'write_call', /wake\(.*?\)/, ''],
  ['a state that has lost something takes nothing', 'submit', /\w+\.must_be_restored and not /, 'false and '],
  ['a lost position is not given again', 'give_positions', /\w+\.now \* 1000/, '1'],
  ['a lost lease is not renewed', 'renew', /or (\w+)\.fence ~= renewal\.fence /, ''],
  ['a lease is renewed for its own time', 'renew', /\w+\.now \+ \w+\.lease_ms/, 'step.now + 1000'],
  ['the grace begins once', 'cancel', /if (\w+)\.cancel_at == '0' then/, 'if $1 then'],
  ['a retry forgets lost leases', 'retry', /lost_leases = '0'/, 'lost_leases = ended.lost_leases'],
  ['attempts of a worker are counted', 'touch', /'\+' \.\. worker, turn\.successes/, "'x', turn.successes"],
  ['keys expire with their tasks', 'keep_key', /call\('PEXPIRE', .*\)/, ''],
  ['gone workers are forgotten', 'sweep', /remove_gone_workers\(.*\)/, ''],
  ['cancels of gone workers are forgotten', 'remove_gone_workers', /call\('DEL', .*KEY\.cancels .*\)/, ''],
  ['gone workers are no consumers', 'remove_gone_workers', /call\('XGROUP', .*\)/, ''],
  ['the index is tidied', 'tidy_index', /call\('XDEL', .*\n/, '\n'],
  ['progress goes with its attempt', 'settle', /if (\S+) == '1' then call\('HDEL', .*\n/, '\n'],
  ['one process sweeps', 'is_maintainer', /if owner ~= .*\n/, '\n'],
  ['a type with tasks is not forgotten', 'forget_types', /not has_tasks\(step, kind\)/, 'true'],
  ['a served type is not forgotten', 'forget_types', /seen \+ ttl <= step\.now/, 'true'],
  ['a configured type is not forgotten', 'only_named', /record\.rules == NEW_RULES and/, ''],
  ['a sweep rests only while nothing happens', 'next_at', /event ~= \(last_event or ''\)/, 'false'],
  ['a sweep rests only after a round over all types', 'begin', /if call\('HGET', .*\n/, '\n'],
  ['a sweep rests only until something is due', 'next_at', / and step\.now < tonumber\(due_ms\)/, ''],
  ['what is due earlier ends the rest', 'sweep_at', /call\('DEL', .*\n/, '\n'],
  ['a named limit: it holds', 'opens_at', /in_use \+ units > /, 'in_use >= '],
  ['a named limit: its rate holds', 'opens_at', /started_of\((\w+, \w+)\) \+ units > /, 'started_of($1) >= '],
  ['a named limit: paused, it starts nothing', 'opens_at', /if \w+\.paused then .*\n/, '\n'],
  ['a named limit: held, it starts nothing', 'opens_at', /if \w+\.held_until > .*\n/, '\n'],
  ['a named limit: a longer hold stays', 'hold', /if until_ms > \w+\.own_held_until then/, 'if until_ms > 0 then'],
  ['a named limit: of all keys, it holds each', 'read_settings', /or found\[\w+ \+ 1\] or/, 'or'],
  ['a named limit: units come back', 'remove_leases', /(\w+)\.in_use - \w+, 0/, '$1.in_use, 0'],
  ['a named limit: units that were never counted do not come back', 'remove_leases', /== #(\w+) then/, '<= #$1 then'],
  ['a named limit: many tasks of a lane keep to it', 'fitting', /math\.min\(most, .*\)/, 'most'],
  ['a named limit: usage corrects the rate', 'leave', /if more ~= 0 then/, 'if false then'],
  ['a named limit: it wakes lanes', 'reopen_one', /if room > 0 then/, 'if false then'],
  ['a named limit: a visited lane lets others return', 'visited', /limits\.touch\(step, name\)/, ''],
  ['a named limit: a new first task is checked again', 'recheck', /== 1 then/, '== 2 then'],
  ['a named limit: it opens by time', 'reopen_due', /'-inf', step\.now_text/, "'-inf', '0'"],
  ['a named limit: unknown ones are refused', 'never_fit', /is_refused or \w+ > most/, 'is_refused'],
  ['a named limit: in use, it is not removed', 'limit', /must_be_unused and/, 'false and'],
  ['a named limit: a changed record is compared', 'refuse', /own ~= \w+\.before or \w+ ~= \w+\.held_before/, 'false'],
  ['a named limit: lost leases hold no units', 'verify_units', /if not due then/, 'if false then'],
  ['a named limit: the limit of one group replaces the common one', 'limit_of', /if not own then/, 'if true then'],
  ['a filter by time ends before its last time', 'is_within', /< (\w+)\.created_before/, '<= $1.created_before'],
  ['a filter by error reads the text, not its JSON', 'error_contains', /is_read then/, 'not is_read then'],
]

export const MUTATIONS: readonly Mutation[] = [
  ...SQLITE.map(([rule, within, from, to]) => ({ store: 'SQLite' as const, rule, within, from, to })),
  ...REDIS.map(([rule, within, from, to]) => ({ store: 'Redis' as const, rule, within, from, to })),
]
