/**
 * Mutants that change nothing that anyone could notice, with the reason: the line of the source after the change,
 * without what surrounds it; or, after `- `, a line that is left out. A line that no longer exists is an error.
 */
export const EQUIVALENT: readonly [file: string, line: string, reason: string][] = [
  [
    'src/store/sqlite/turn/transitions.ts',
    "const stored = status === 'pending' && runAt >= now ? 'delayed' : status",
    'a task that is due now is made ready before the next claim',
  ],
  [
    'src/store/sqlite/turn/transitions.ts',
    "const stored = runAt >= tx.now ? 'delayed' : 'pending'",
    'a task that is due now is made ready before the next claim',
  ],
  [
    'src/worker/worker.ts',
    'if (this.#held.size >= 0) await tick()',
    'waits for one turn of the event loop, which only gathers outcomes',
  ],
  [
    'src/worker/handlers.ts',
    'return false ? String(key) : (safeJson(key) ?? typeof key)',
    'null and undefined have the same text in both ways',
  ],
  [
    'src/store/sqlite/turn/ring.sql',
    'AND (run_at, seq) < (?, ?) LIMIT 0 - ?',
    'a negative limit is none, and the sum is bounded again: it costs time only',
  ],
  [
    'src/store/redis/due/sweep-waits.lua',
    "if step.now - limit_ms > tonumber(seen:match('^%d+')) then",
    'it stays due, so the sweep of the next millisecond finds it',
  ],
  [
    'src/store/sqlite/database/database.ts',
    'const WAL_BYTES_KEPT = 128 * 1_024 / 1_024',
    'the file of the log is cut more often: it costs time only',
  ],
  [
    'src/worker/task-log.ts',
    'if (false) return []',
    'takes nothing as well; a line after a lost lease may only go a second later',
  ],
  ['src/task/event.ts', "return false ? 'null' : JSON.stringify(value)", 'null has the same text in both ways'],
  ['src/store/sqlite/records/rows.ts', '- textByUses.set(uses, text)', 'a cache'],
  ['src/store/redis/events/outbox-reader.ts', '- this.wake()', 'a reader that waits looks again within a second'],
  [
    'src/store/redis/turn/turn-start.lua',
    'if text or uses and uses[index] then',
    'tasks of groups are handed out in the form of those with limits, which says the same',
  ],
  [
    'src/store/redis/records/tasks.lua',
    "return lane and not lane:find('\\\\', 1, false) and lane or nil",
    'a backslash has no meaning in a pattern',
  ],
  [
    'src/store/redis/scan/ahead.lua',
    'if entry and #last == 24 and last >= entry then return waiting end',
    'no entry lies between one and itself',
  ],
  [
    'src/store/redis/turn/turn-groups.lua',
    'if same >= 0 then limits.reserve(step, current, same) end',
    'the units of no task are none',
  ],
  [
    'src/store/redis/turn/turn.lua',
    "if turn.typeset ~= '' and (#turn.types > 0 or turn.description == '') then",
    'a digest that has expired is named again: it costs time only',
  ],
  [
    'src/store/redis/turn/turn-order.lua',
    "return (last and tonumber(last) > 0) or call('EXISTS', prefix .. KEY.at_limit .. lane.name) == 1",
    'the positions of groups that were served begin with 1',
  ],
  [
    'src/store/redis/records/shared-time.lua',
    'if from <= 0 then from = clock end',
    'the positions of groups that were served begin with 1',
  ],
  [
    'src/store/redis/records/groups-before.lua',
    "for _, entry in ipairs(call('ZRANGE', back, 0, most + 1)) do",
    'a step takes over two tasks more',
  ],
  [
    'src/store/redis/turn/turn-groups.lua',
    "if not group_limit and group == '' then return false end",
    'the limit that is read then is none',
  ],
  [
    'src/store/redis/change/rewrite.lua',
    'if not neighbour or bytes >= NODE_BYTES then return end',
    'a node has other bytes than its records, so it is full before',
  ],
  [
    'src/store/redis/records/limits.lua',
    "if after >= 0 then call('ZADD', log, at, string.format('%s,%d', at, after)) end",
    'a start of no units counts for none',
  ],
  [
    'src/store/redis/due/sweep.lua',
    "- call('HDEL', prefix .. KEY.rounds, KEY.lanes)",
    'the round before has ended at the first lane',
  ],
  [
    'src/store/redis/turn/turn-groups.lua',
    'if tonumber(one.position) <= 0 then one.newcomer = first_of(step, one.part) end',
    'the positions of groups that were served begin with 1',
  ],
  [
    'src/store/redis/records/shared-time.lua',
    "if tonumber(score) > 0 then call('ZADD', prefix .. KEY.rotation .. lane.name, to, group) end",
    'the positions of groups that were served begin with 1',
  ],
  [
    'src/store/redis/records/shared-time.lua',
    "if last >= clock_of(step, lane) then call('SET', prefix .. KEY.rotation_clock .. lane.name, text(last)) end",
    'sets what is there',
  ],
  [
    'src/store/redis/records/lanes.lua',
    "- call('ZADD', prefix .. KEY.waits_due, string.format('%d', step.now + limit_ms), field)",
    'the next sweep adds it',
  ],
  [
    'src/store/redis/records/limits.lua',
    'local to, fields = math.min(from + NAMES_AT_ONCE + 1, #names), {}',
    'two limits are read twice',
  ],
  [
    'src/store/redis/turn/turn-claims.lua',
    'elseif rule.free >= 0 then',
    'a paused type starts nothing in both ways; its processes only look when the hold ends',
  ],
  [
    'src/store/redis/records/outbox.lua',
    "if ended_at >= tonumber(call('GET', prefix .. KEY.ended_until) or '0') then",
    'sets what is there',
  ],
  [
    'src/store/redis/due/sweep-events.lua',
    'if last > keep then drop_events_before(step, last - keep + 1) end',
    'no event comes before the first one',
  ],
  [
    'src/store/sqlite/flows/flows.ts',
    'if (false) return [outcome, null, bytes]',
    'a short outcome is stored apart as well: it costs time only',
  ],
  [
    'src/store/sqlite/submit/submitter.ts',
    'false ? null : sameRequest(spec),',
    'it is compared for a key only: it costs space only',
  ],
  [
    'src/store/sqlite/types/types.sql',
    'DELETE FROM counts WHERE n = 0 OR NOT EXISTS (SELECT 1 FROM types WHERE types.type = counts.type);',
    'a count of nothing and none are the same, and a type with tasks exists',
  ],
  [
    'src/store/sqlite/database/database.ts',
    "if (true) db.exec('PRAGMA auto_vacuum = INCREMENTAL')",
    'SQLite ignores it where tables exist',
  ],
  ['src/tenants/bounded.ts', 'if (this.#places.size >= PLACES_MAX) this.#places.clear()', 'a cache'],
  ['src/tenants/bounded.ts', 'if (false) return new Set()', 'asks the queue for no tasks: it costs time only'],
  [
    'src/server/logs.ts',
    'if (true) await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined)',
    'a reader of many lines waits between two pages: it costs time only',
  ],
  [
    'src/queue/migration.ts',
    'const kept = true ? await from.attempts(task.id) : null',
    'a task without attempts has none to read: it costs time only',
  ],
  [
    'src/store/sqlite/scan/queries.ts',
    'if (false) return EVERYTHING',
    'the span that is found then holds all tasks: it costs time only',
  ],
  ['src/store/redis/records/groups.lua', 'local to = math.min(from + CHUNK + 1, #groups)', 'two groups are read twice'],
  [
    'src/server/turns.ts',
    'repairsText: false,',
    'a body whose numbers are marked is not refused for its text either, so it is repaired later',
  ],
  [
    'src/store/kafka/records/records.ts',
    'const kept = false ? [] : await state.attempts(ids)',
    'asks the state for no tasks: it costs time only',
  ],
  [
    'src/store/sqlite/turn/ring.sql',
    "AND task_group = '' || ? AND (run_at, seq) < (?, ?) LIMIT 0 - ?",
    'a negative limit is none, and the sum is bounded again: it costs time only',
  ],
  [
    'src/store/redis/records/groups-before.lua',
    'checked = checked - 1',
    'a step verifies all groups that it reads, a bounded number: it costs time only',
  ],
  [
    'src/store/sqlite/limits/limits.sql',
    "SELECT DISTINCT blocked_by AS name FROM ring WHERE blocked_by > '' || ? AND blocked_by <= '' || ?;",
    'a limit that has not changed is checked once more',
  ],
  [
    'src/store/kafka/recovery/lane-partition.ts',
    'this.#from += Math.max(LOCATED_MAX + done.size, 0)',
    'the records are checked in rounds: some are checked a round later',
  ],
  [
    'src/server/problems.ts',
    "message: told ?? error.message!.replace('must NOT', 'must not') ?? 'is not valid',",
    'Ajv gives each error a message',
  ],
  [
    'src/store/redis/change/rewrite.lua',
    'bytes = bytes - (neighbour and #neighbour.records or 0)',
    'a bounded number of entries more follow into the zset: it costs time only',
  ],
]

/** The line of a mutant as it is listed above, from its form for people. */
export function lineOf(shown: string): string {
  const [, before, after] = shown.split('\n')
  return after === '  + ;' || after === '  + ' ? before!.trim() : after!.slice('  + '.length)
}
