import { expect, it } from 'vitest'
import { foldedStack } from '../../src/task/stack.ts'

it('folds consecutive frames of libraries, and keeps those of the program and the causes', () => {
  const stack = [
    'Error: outer',
    '    at handler (/app/handlers.ts:3:9)',
    '    at next (file:///app/node_modules/lib/index.js:1:1)',
    '    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)',
    '[cause]: Error: inner',
    '    at other (/app/other.ts:1:1)',
    '    at emit (node:events:1:1)',
  ]
  expect(foldedStack(stack.join('\n')).split('\n')).toEqual([
    ...stack.slice(0, 2),
    '    … 2 frames of libraries',
    ...stack.slice(4, 6),
    '    … 1 frame of libraries',
  ])
})

it('keeps the first frame even of a library, and texts that have none', () => {
  const stack = 'Error: x\n    at read (node:fs:1:1)\n    at open (node:fs:2:1)\n    at mine (/app/a.ts:1:1)'
  expect(foldedStack(stack)).toBe(
    'Error: x\n    at read (node:fs:1:1)\n    … 1 frame of libraries\n    at mine (/app/a.ts:1:1)',
  )
  expect(foldedStack('plain text\n  of two lines')).toBe('plain text\n  of two lines')
})

it('folds frames of Python with the source below each', () => {
  const stack = [
    'Traceback (most recent call last):',
    '  File "/app/tasks.py", line 3, in run',
    '    fetch(url)',
    '  File "/usr/lib/python3.12/urllib/request.py", line 215, in urlopen',
    '    return opener.open(url)',
    '           ^^^^^^^^^^^^^^^^',
    '  File "/app/.venv/lib/python3.12/site-packages/requests/api.py", line 59, in request',
    '    return session.request(url)',
    'OSError: refused',
  ]
  expect(foldedStack(stack.join('\n')).split('\n')).toEqual([
    ...stack.slice(0, 3),
    '    … 2 frames of libraries',
    'OSError: refused',
  ])
})
