import { readNamed } from '../../src/queue/event-reader.ts'
import { openStore } from '../../src/store/open.ts'
import { storeContract } from './store-contract.ts'

storeContract('SQLite', async (options) => {
  const store = await openStore('sqlite::memory:', options, readNamed)
  return { store, second: () => openStore(store.url, options, readNamed) }
})
