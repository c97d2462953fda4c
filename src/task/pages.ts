/** The pages of a list, one after the other. */
export async function* pagesOf<P extends { nextCursor: string | null }>(
  read: (at: { cursor?: string }) => Promise<P>,
): AsyncGenerator<P> {
  let cursor: string | null = null
  do {
    const page: P = await read(cursor === null ? {} : { cursor })
    yield page
    cursor = page.nextCursor
  } while (cursor !== null)
}
