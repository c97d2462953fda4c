import { beforeAll } from 'vitest'
import { openStore } from '../../src/store/open.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'
import { storeContract } from './store-contract.ts'

let redis: RunningRedis
beforeAll(async () => {
  redis = await startRedis()
})

let stores = 0

storeContract('Redis', (options) => openStore(`${redis.url}?prefix=test${++stores}`, options))
