#!/usr/bin/env bash
# Makes every call of the HTTP API with curl and checks each answer; ends with 1 at the first one that is not as
# documented, or if the server documents a call that was not made. Needs curl and jq, and a server with the handlers
# that come along:
#
#   npm start
#   examples/test_api.sh                  (XQUEUE_SERVER and XQUEUE_KEY say where, and who calls)
#
# It works on a task type of its own, and cancels what it leaves waiting.
set -euo pipefail

server=${XQUEUE_SERVER:-http://127.0.0.1:8080}
type=test-api-$$
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
auth=()
[ -z "${XQUEUE_KEY:-}" ] || auth=(-H "Authorization: Bearer $XQUEUE_KEY")

# call METHOD PATH [BODY] [curl's options …]: the answer is in $body, its status in $status.
call() {
  local method=$1 path=$2 data=()
  shift 2
  if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
    data=(-H 'Content-Type: application/json' -d "$1")
    shift
  fi
  what="$method $path"
  status=$(curl -sS --max-time 30 -o "$folder/body" -D "$folder/head" -w '%{http_code}' "${auth[@]}" \
    -X "$method" "${data[@]}" "$@" "$server$path")
  body=$(<"$folder/body")
  echo "$method ${path%%\?*}" >>"$folder/made"
}

# expect STATUS [FILTER …]: each filter of jq must hold for the answer.
expect() {
  local wanted=$1
  shift
  [ "$status" = "$wanted" ] || fail "answered $status instead of $wanted"
  for filter in "$@"; do
    jq -e "$filter" "$folder/body" >/dev/null || fail "does not hold: $filter"
  done
  printf '%-4s %-60s %s\n' "$status" "$what" "$*"
}

fail() {
  printf 'FAILED %s: %s\n%.2000s\n' "$what" "$1" "$body" >&2
  exit 1
}

# until_in FILE TEXT: waits until the text is there.
until_in() {
  for _ in $(seq 300); do
    grep -q "$2" "$1" && return
    sleep 0.1
  done
  fail "$1 does not have $2"
}

submit() {
  call POST /api/v1/tasks "{\"type\": \"$type\"${1:+, $1}}"
  expect 201 '.status == "pending"'
  id=$(jq -r .id <<<"$body")
}

take() {
  call POST /api/v1/tasks/consume "{\"types\": [\"$type\"], \"max\": 1, \"wait\": \"10s\", \"worker_id\": \"test-api\"}"
  expect 200 '.leases | length == 1' '.leases[0].expires_at | endswith("Z")' ".leases[0].task.id == \"$id\""
  lease=$(jq -r '.leases[0].lease' <<<"$body")
}

echo "— the system"
call GET /api/v1/live && expect 200 '.status == "alive"'
call GET /api/v1/health && expect 200 '.status == "healthy" or .status == "degraded"' '.checks | length > 0'
call GET /api/v1/stats && expect 200 '.pending_tasks >= 0' '.is_running' '.stream_info.length >= 0' '.instance_id'
call GET '/api/v1/stats/history?range=24h' && expect 200 '.slot == 300' '.slots | type == "array"'
call GET /api/v1/stream && expect 200 '.stream_info | has("length", "groups", "consumers", "streams")'
call GET /api/v1/workers && expect 200 '.total_workers >= .active_workers' '.workers | type == "array"'
call GET /metrics && expect 200
grep -q '^xqueue_' <<<"$body" || fail 'has no metric of XQueue'
call GET /api/v1/handlers && expect 200 '.handlers | index("example")' '.count == (.handlers | length)'
call POST /api/v1/handlers "{\"handlers\": [{\"type\": \"$type\", \"retry\": {\"base\": \"20s\", \"cap\": \"10s\"}}]}"
expect 400 '.errors[0].path == "handlers[0].retry"'

echo "— a type is known when a worker runs it"
call POST /api/v1/tasks "{\"type\": \"$type\"}"
expect 400 '.code == "unknown_type"' '.registered_types | index("example")' '.errors[0].path == "type"'
call POST /api/v1/tasks/consume "{\"types\": [\"$type\"]}" && expect 200 '.leases == []'
call GET /api/v1/types && expect 200 "[.types[].type] | index(\"$type\")" '.count == (.types | length)'

echo "— submitting"
submit '"payload": {"n": 1}, "priority": 9, "delay": "1h30m", "tags": {"order": "7"}, "group": "acme"'
expect 201 '.priority == 9' '.max_retry == 3' '.queue_timeout == 600' '.process_timeout == 300' '.tags.order == "7"'
grep -qi "^location: /api/v1/tasks/$id" "$folder/head" || fail 'has no Location'
call GET "/api/v1/tasks/$id" && expect 200 ".id == \"$id\"" '.payload.n == 1' '.attempts == 0' '.result == null'
call GET "/api/v1/tasks/$id/explain" && expect 200 '.reason == "delayed"' '.until | endswith("Z")'
call GET "/api/v1/tasks?type=$type&status=pending&tag=order:7&group=acme&limit=1" && expect 200 ".tasks[0].id == \"$id\""
call DELETE "/api/v1/tasks/$id" && expect 200 '.status == "canceled"'
call DELETE "/api/v1/tasks/$id" && expect 409 '.code == "task_finished"'
call POST /api/v1/tasks/wait "{\"ids\": [\"$id\"], \"wait\": \"20s\"}" && expect 200 ".id == \"$id\"" '.status == "canceled"'
call POST "/api/v1/tasks/$id/retry" && expect 200 '.status == "pending"' '.attempts == 0'
call POST "/api/v1/tasks/$id/retry" && expect 409 '.code == "task_not_retryable"'
call POST /api/v1/tasks "{\"type\": \"$type\", \"delay\": 60}" -H "Idempotency-Key: $type" && expect 201
call POST /api/v1/tasks "{\"type\": \"$type\", \"delay\": 60}" -H "Idempotency-Key: $type" && expect 200
call POST /api/v1/tasks "{\"type\": \"$type\", \"delay\": 61}" -H "Idempotency-Key: $type"
expect 409 '.code == "idempotency_conflict"'
call POST /api/v1/tasks/batch "{\"tasks\": [{\"type\": \"$type\", \"delay\": 60}, {\"type\": \"$type\", \"delay\": 60}]}"
expect 201 '.count == 2' '[.tasks[].status] == ["pending", "pending"]'
call POST /api/v1/tasks/batch "{\"tasks\": [{\"type\": \"$type\"}, {\"type\": \"$type\", \"priority\": 11}]}"
expect 400 '.errors[0].path == "tasks[1].priority"'
call POST /api/v1/tasks/cancel "{\"type\": \"$type\"}" && expect 202 '.count == 4'
call POST /api/v1/tasks/retry "{\"type\": \"$type\", \"tag\": \"order:7\"}" && expect 202 '.count == 1'
call POST /api/v1/tasks/cancel "{\"type\": \"$type\"}" && expect 202 '.count == 1'
call POST /api/v1/tasks/purge "{\"type\": \"$type\", \"status\": \"canceled\", \"dry_run\": true}"
expect 200 '.count == 4' '.more == false'

echo "— who calls (this is about a server without access control; with it, a key decides)"
call GET /api/v1/session && expect 200 '.access_control | type == "boolean"' '.scopes | index("submit")'
if jq -e .access_control "$folder/body" >/dev/null; then
  call POST /api/v1/subscriptions "{\"types\": [\"$type\"]}" && expect 201 '.token'
else
  call POST /api/v1/subscriptions "{\"types\": [\"$type\"]}" && expect 409 '.code == "access_control_off"'
fi
call POST /api/v1/session "{\"key\": \"${XQUEUE_KEY:-none}\"}" && expect 200 '.scopes | index("submit")'
call DELETE /api/v1/session && expect 204

echo "— what is wrong is said"
call GET /api/v1/tasks/none && expect 404 '.code == "not_found"' '.title' '.detail' '.status == 404'
grep -qi '^content-type: application/problem+json' "$folder/head" || fail 'is no problem+json'
call POST /api/v1/tasks "{\"type\": \"$type\", \"foo\": 1}" && expect 400 '.errors == [{"path": "foo", "message": "is not a known field"}]'
call POST /api/v1/tasks "{\"type\": \"$type\", \"max_concurrency\": 1}" && expect 400 '.code == "type_owns_limits"'

echo "— a worker: take, keep, settle"
submit
take
call POST "/api/v1/leases/$lease/heartbeat" '{"progress": 40}' && expect 200 '.cancel_requested == false' '.expires_at'
call GET "/api/v1/tasks/$id" && expect 200 '.status == "processing"' '.progress == 40' '.worker_id == "test-api"'
call POST "/api/v1/leases/$lease/complete" '{"result": {"ok": true}}' && expect 200 '.status == "success"'
call POST "/api/v1/leases/$lease/complete" '{}' && expect 410 '.code == "lease_lost"'
call GET "/api/v1/tasks/$id" && expect 200 '.status == "success"' '.result.ok' '.attempts == 1' '.completed_at'
submit
take
call POST /api/v1/tasks/turn "{\"renewals\": [{\"lease\": \"$lease\", \"progress\": 40}]}"
expect 200 '.renewals[0].cancel_requested == false' '.outcomes == []' '.leases == []'
call POST /api/v1/tasks/turn "{\"outcomes\": [{\"lease\": \"$lease\", \"result\": 7}, {\"lease\": \"none\"}]}"
expect 200 '.outcomes[0].status == "success"' '.outcomes[1].problem.code == "lease_lost"'
submit
take
call POST "/api/v1/leases/$lease/fail" '{"error": "no", "retry": false}' && expect 200 '.status == "failed"'
call GET "/api/v1/tasks/$id/attempts" && expect 200 '.attempts[0].error == "no"' '.attempts[0].worker_id == "test-api"'
call GET "/api/v1/tasks/$id/logs" && expect 200 '.lines == []' '.done'
submit
take
call POST "/api/v1/leases/$lease/fail" '{"error": "later", "delay": "1h"}' && expect 200 '.status == "pending"'
call GET "/api/v1/tasks/$id" && expect 200 '.attempts == 1' '.error == "later"'
submit
take
call DELETE "/api/v1/tasks/$id" && expect 202 '.status == "processing"'
call POST "/api/v1/leases/$lease/heartbeat" '{}' && expect 200 '.cancel_requested'
call POST "/api/v1/leases/$lease/complete" '{}' && expect 410
call GET "/api/v1/tasks/$id" && expect 200 '.status == "canceled"'
call POST "/api/v1/tasks/$id/purge" && expect 204
call GET "/api/v1/tasks/$id" && expect 404 '.code == "not_found"'

echo "— tasks that wait for others, and their batch"
call GET "/api/v1/batches/$type" && expect 404 '.code == "not_found"'
call POST /api/v1/tasks/batch "{\"tasks\": [{\"type\": \"$type\", \"batch\": \"$type\"},
  {\"type\": \"$type\", \"after\": [0], \"on_failure\": \"cancel\", \"batch\": \"$type\"}]}"
expect 201 '.count == 2'
id=$(jq -r '.tasks[0].id' <<<"$body")
waiting=$(jq -r '.tasks[1].id' <<<"$body")
call GET "/api/v1/tasks/$waiting" && expect 200 '.status == "pending"' ".after == [\"$id\"]" ".batch == \"$type\""
call GET "/api/v1/tasks/$waiting/explain" && expect 200 '.reason == "waits_for_tasks"' ".waits_for == [\"$id\"]"
call GET /api/v1/stats && expect 200 '.dependent_tasks >= 1'
call POST /api/v1/tasks "{\"type\": \"$type\", \"after\": [\"none\"]}" && expect 400 '.code == "unknown_predecessor"'
call POST /api/v1/tasks "{\"type\": \"$type\", \"after\": [0]}" && expect 400 '.errors[0].path == "after[0]"'
take
call POST "/api/v1/leases/$lease/fail" '{"error": "no", "retry": false}' && expect 200 '.status == "failed"'
call GET "/api/v1/tasks/$waiting" && expect 200 '.status == "canceled"' ".error | contains(\"$id\")"
call GET "/api/v1/batches/$type" && expect 200 '.total == 2' '.failed == 1' '.canceled == 1' '.progress == 100' '.done'
call POST "/api/v1/batches/$type/retry" && expect 202 '.count == 2'
take
call POST "/api/v1/leases/$lease/complete" '{"result": 7}' && expect 200
first=$id id=$waiting
take
expect 200 ".leases[0].predecessors == [{\"id\": \"$first\", \"type\": \"$type\", \"status\": \"success\", \"result\": 7, \"error\": null}]"
call GET "/api/v1/leases/$lease/predecessors/$first" && expect 200 '.result == 7'
call GET "/api/v1/leases/$lease/predecessors/none" && expect 404 '.code == "not_found"'
call POST "/api/v1/leases/$lease/complete" '{}' && expect 200
call GET "/api/v1/tasks?batch=$type" && expect 200 '.count == 2' 'all(.tasks[]; .status == "success")'
call POST /api/v1/tasks "{\"type\": \"$type\", \"batch\": \"$type\", \"delay\": 60}" && expect 201
call DELETE "/api/v1/batches/$type" && expect 202 '.count == 1'

echo "— limits of the type"
call POST /api/v1/concurrency "{\"task_type\": \"$type\", \"max_concurrency\": 1}" && expect 200 '.max_concurrency == 1'
call POST /api/v1/concurrency "{\"task_type\": \"$type\", \"max_concurrency\": 0}" && expect 400
call GET /api/v1/concurrency && expect 200 ".limits.\"$type\" == 1" ".in_use.\"$type\" == 0"
submit
take
submit
call GET "/api/v1/tasks/$id/explain" && expect 200 '.reason == "limit_reached"' '.holders[0].worker_id == "test-api"'
call GET "/api/v1/concurrency/$type" && expect 200 '.in_use == 1' '.holders[0].lease_expires_at'
call POST "/api/v1/leases/$lease/complete" '{}' && expect 200
call POST "/api/v1/types/$type" '{"declared": false, "ceilings": {"max_retry": 500}}' && expect 200 '.ceilings.max_retry == 500'
call POST "/api/v1/types/$type" '{"declared": false, "retention": {"failed": "30d"}}' && expect 200 '.retention.failed == 2592000'
call POST "/api/v1/types/$type/pause" && expect 200 '.paused'
call GET "/api/v1/tasks/$id/explain" && expect 200 '.reason == "paused"'
call POST "/api/v1/types/$type/resume" && expect 200 '.paused == false'
call POST "/api/v1/types/$type/rate" '{"max": 100, "per": "1m"}' && expect 200 '.rate == {"max": 100, "per": 60}'
call POST "/api/v1/types/$type/rate" '{"max": null}' && expect 200 '.rate == null'
call POST /api/v1/concurrency "{\"task_type\": \"$type\", \"max_concurrency\": null}" && expect 200 '.max_concurrency == null'

echo "— limits by name"
limit="/api/v1/limits/type:$type"
call PUT "$limit" '{"max": 2, "rate": {"max": 100, "per": "1m"}}' && expect 200 '.max == 2' '.rate == {"max": 100, "per": 60}'
call GET /api/v1/limits && expect 200 "any(.limits[]; .name == \"type:$type\")"
call POST "$limit/hold" '{"for": "1h"}' && expect 200 '.held_until'
call GET "/api/v1/tasks/$id/explain" && expect 200 '.reason == "held"' '.until'
call POST "$limit/pause" && expect 200 '.paused'
call POST "$limit/resume" && expect 200 '.paused == false' '.held_until == null'
call GET "$limit" && expect 200 '.waiting >= 1' '.holders == []'
call DELETE "$limit" && expect 200 '.max == null' '.rate == null'

echo "— schedules"
call POST /api/v1/schedules/preview '{"cron": "30 2 * * MON-FRI", "timezone": "Europe/Berlin"}'
expect 200 '.upcoming | length == 5'
call POST /api/v1/schedules "{\"id\": \"$type\", \"type\": \"$type\", \"every\": \"366d\"}" && expect 201 '.every == 31622400'
call POST /api/v1/schedules "{\"id\": \"$type\", \"type\": \"$type\", \"every\": \"366d\"}" && expect 200 '.every == 31622400'
call POST /api/v1/schedules "{\"id\": \"$type\", \"type\": \"$type\", \"cron\": \"61 * * * *\"}" && expect 400 '.errors[0].path == "cron"'
call GET /api/v1/schedules && expect 200 "[.schedules[].id] | index(\"$type\")" '.count >= 1'
call PATCH "/api/v1/schedules/$type" '{"paused": true}' && expect 200 '.paused' '.upcoming == []'
call GET "/api/v1/schedules/$type" && expect 200 '.paused' '.last_task_id == null'
call POST "/api/v1/schedules/$type/run" && expect 201 '.last_task_id'
ran=$(jq -r .last_task_id "$folder/body")
call DELETE "/api/v1/tasks/$ran" && expect 200 '.status == "canceled"'
call DELETE "/api/v1/schedules/$type" && expect 200
call GET "/api/v1/schedules/$type" && expect 404 '.code == "not_found"'

echo "— keys, which a server without access control does not have"
call GET /api/v1/keys && { [ "$status" = 200 ] || expect 409 '.code == "access_control_off"'; }
for path in none none/tokens; do
  call DELETE "/api/v1/keys/$path" && { [ "$status" = 404 ] || expect 409 '.code == "access_control_off"'; }
done

echo "— status as it changes"
what="GET /api/v1/events"
curl -sSNi --max-time 60 "${auth[@]}" "$server/api/v1/events?type=$type" >"$folder/events" 2>/dev/null &
echo "$what" >>"$folder/made"
until_in "$folder/events" '^HTTP/[0-9.]* 200'
call POST /api/v1/tasks/cancel "{\"type\": \"$type\"}" && expect 202 '.count == 2'
until_in "$folder/events" "\"task_id\":\"$id\".*\"status\":\"canceled\""

echo "— nothing that is documented was left out"
call GET / && expect 200
call GET /docs/ && expect 200
call GET /openapi.json && expect 200 '.openapi == "3.1.0"'
jq -r '.paths | to_entries[] | .key as $path | .value | keys[] | "\(ascii_upcase) \($path)"' "$folder/body" >"$folder/documented"
while read -r documented; do
  what=$documented
  pattern="^$(sed 's/{[^}]*}/[^\/]+/g' <<<"$documented")\$"
  grep -qE "$pattern" "$folder/made" || fail 'is documented, and this script does not call it'
done <"$folder/documented"
echo "OK: $(wc -l <"$folder/made") calls, all $(wc -l <"$folder/documented") that are documented"
