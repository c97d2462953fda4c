import { defineHandlers } from '../src/worker/handler.ts'
import { email } from './email.ts'
import { example } from './example.ts'
import { http } from './http.ts'

/** The task types that `npm start` runs. */
export default defineHandlers({ example, email, http })
