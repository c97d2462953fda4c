import { DatabaseSync } from 'node:sqlite'

/** Writes transactions of many sizes into a database until it is killed, and lets its log begin again in every way. */
const database = new DatabaseSync(process.argv[2]!)
database.exec('CREATE TABLE IF NOT EXISTS theirs (bytes BLOB)')
for (let n = 0; ; n++) {
  database.exec(`INSERT INTO theirs VALUES (randomblob(${1_000 * (n % 100)}))`)
  if (n % 7 === 0) database.exec(`PRAGMA wal_checkpoint(${['PASSIVE', 'RESTART', 'TRUNCATE'][n % 3]})`)
  if (n % 50 === 0) database.exec('DELETE FROM theirs')
  if (n === 10) process.stdout.write('ready')
}
