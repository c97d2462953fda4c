import { connect } from 'node:net'

/**
 * A subscriber that does as little as one can, so that what is measured is the other side: it counts PUBLISH packets and
 * acknowledges those that want it. `listener.ts <url> <filter> <qos> <count>`; tells when it listens, and when it has
 * heard `count` changes, with the CPU that it took.
 */
const [, , url, filter, qos, count] = process.argv
const { hostname, port } = new URL(url!)
const string = (text: string) => [text.length >> 8, text.length & 255, ...Buffer.from(text)]
const packet = (head: number, body: number[]) => Buffer.from([head, body.length, ...body])

const socket = connect(Number(port), hostname)
socket.write(packet(0x10, [...string('MQTT'), 4, 2, 0, 0, ...string('bench')]))
socket.write(packet(0x82, [0, 1, ...string(filter!), Number(qos)]))
let rest: Buffer = Buffer.alloc(0)
let heard = 0
let cpu = process.cpuUsage()
socket.on('error', () => process.exit(1))
socket.on('data', (chunk) => {
  const acknowledged: number[] = []
  rest = takePackets(rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk, (head, body) => {
    if (head >> 4 === 9) {
      cpu = process.cpuUsage()
      process.send!('listening')
    }
    if (head >> 4 !== 3) return
    const end = 2 + body.readUInt16BE()
    if (head & 6) acknowledged.push(0x40, 2, body[end]!, body[end + 1]!)
    // What is retained tells of before, statistics are no change.
    if (head & 1 || body.length < 200 || body.toString('latin1', end - 5, end) === 'stats') return
    heard += 1
    if (heard === Number(count)) process.send!(process.cpuUsage(cpu))
  })
  if (acknowledged.length > 0) socket.write(Buffer.from(acknowledged))
})

/** Hands over each whole packet: its first byte, and what follows its length. Returns what is left of the last one. */
function takePackets(data: Buffer, onPacket: (head: number, body: Buffer) => void): Buffer {
  let at = 0
  while (at < data.length) {
    let length = 0
    let start = at + 1
    for (let shift = 0; ; shift += 7, start++) {
      if (start >= data.length) return data.subarray(at)
      length |= (data[start]! & 127) << shift
      if (data[start]! < 128) break
    }
    const end = start + 1 + length
    if (end > data.length) return data.subarray(at)
    onPacket(data[at]!, data.subarray(start + 1, end))
    at = end
  }
  return data.subarray(at)
}
