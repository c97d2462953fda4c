/** The id of a lease's task. A token is `<id>.<fence>`, and ids contain no dot; empty for any other text. */
export function taskIdOf(lease: string): string {
  return lease.slice(0, Math.max(0, lease.indexOf('.')))
}
