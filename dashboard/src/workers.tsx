import { useState } from 'preact/hooks'
import { get, type Task, type Worker } from './api.ts'
import { useEachSecond } from './live.ts'
import { Meter, Panel } from './parts.tsx'
import { duration, say } from './words.ts'

/** The live workers of all processes with their tasks. */
export function WorkersView() {
  const [workers, setWorkers] = useState<Worker[] | null>(null)
  const [running, setRunning] = useState<Task[]>([])
  useEachSecond(async () => {
    const [told, page] = await Promise.all([
      get<{ workers: Worker[] }>('/workers'),
      get<{ tasks: Task[] }>('/tasks?status=processing&limit=500'),
    ])
    setWorkers(told.workers)
    setRunning(page.tasks)
  }, [])
  const ago = (iso: string) => duration(Math.max(0, (Date.now() - Date.parse(iso)) / 1_000))
  return (
    <>
      <h1>{say('workers')}</h1>
      {workers?.length === 0 && <p class="empty">{say('noWorkers')}</p>}
      {workers?.map((worker) => {
        const tasks = running.filter(({ worker_id }) => worker_id === worker.id)
        const busy = say('of', worker.running, worker.concurrency)
        return (
          <Panel key={worker.id} title={worker.id}>
            <p class="worker">
              <span class="used">
                <Meter value={worker.running} max={worker.concurrency} label={say('running')} /> {busy}
              </span>
              <span>
                {worker.host}, {say('process', worker.pid)}
              </span>
              <span class="dim">
                {say('uptime')} {ago(worker.started_at)}
              </span>
              <span class="dim">{say('lastSeen', ago(worker.last_seen))}</span>
            </p>
            <p class="badges">
              {worker.types.map((type) => (
                <span key={type} class="badge">
                  {type}
                </span>
              ))}
            </p>
            {tasks.length === 0 ? (
              <p class="dim">{say('idle')}</p>
            ) : (
              <ul class="runs">
                {tasks.map(({ id, type, started_at }) => (
                  <li key={id}>
                    <a href={`#/tasks/${id}`}>{id}</a>
                    <span>{type}</span>
                    <span class="dim">{say('since', ago(started_at!))}</span>
                  </li>
                ))}
              </ul>
            )}
          </Panel>
        )
      })}
    </>
  )
}
