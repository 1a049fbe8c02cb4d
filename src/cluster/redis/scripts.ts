import { createHash } from 'node:crypto'

/*
 * What Redis does in one step. A history is a stream, of which the ids are `NUMBER-TIME`: the entries are numbered
 * without a gap, and the time, in microseconds of the server's clock, tells how old an entry is, and whether it is the
 * one that somebody has read before. The state is a hash:
 *
 *   epoch           which history it is
 *   last, time      the latest entry
 *   first, oldest   the oldest entry that is there, and its time
 *   bytes           of the messages that are there
 *   age             how old entries may be, in microseconds
 *
 * Redis may lose what it was given: all of it, without persistence, or the latest part, when it comes back with a
 * snapshot or a replica takes its place. Who knows of entries that are not there says so, and the history is another one
 * from then on.
 */

/** A script, and the digest by which a server knows it that has run it before. */
export interface Script {
  readonly text: string
  readonly digest: string
}

function makeScript(text: string): Script {
  return { text, digest: createHash('sha1').update(text).digest('hex') }
}

/** KEYS: log, state. ARGV: an epoch in case that a new one is needed. Numbers are texts, for Lua would shorten long ones. */
const OPEN = `
local log, state = KEYS[1], KEYS[2]
local function text(number) return string.format('%.0f', number) end
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local fields = redis.call('HMGET', state, 'epoch', 'last', 'time', 'first', 'oldest', 'bytes', 'age')
local epoch = fields[1]
local last, time, first = tonumber(fields[2]), tonumber(fields[3]), tonumber(fields[4])
local oldest, bytes, age = tonumber(fields[5]), tonumber(fields[6]), tonumber(fields[7])
local isChanged = false
local function beginAnew()
  redis.call('DEL', log)
  epoch, last, time, first, oldest, bytes, age = ARGV[1], 0, 0, 1, 0, 0, age or 0
  isChanged = true
end
local function empty()
  first, oldest, bytes = last + 1, 0, 0
  isChanged = true
end
if not (epoch and last and time and first and oldest and bytes and age) then
  beginAnew()
elseif first <= last and redis.call('EXISTS', log) == 0 then
  empty()
end
local function numberOf(id) return tonumber(string.match(id, '^%d+')) end
local function timeOf(id) return tonumber(string.match(id, '%d+$')) end
-- Nothing for what is no entry of ours.
local function messageOf(entry) return entry[2][1] == 'm' and entry[2][2] or nil end
local function isBeyond(most, mostBytes)
  if first > last then return false end
  return last - first >= most or bytes > mostBytes or (age > 0 and oldest <= now - age)
end
local function trim(most, mostBytes)
  local from = first
  while isBeyond(most, mostBytes) do
    local count = math.max(2, math.min(64, last - first - most + 2))
    local entries = redis.call('XRANGE', log, text(first), '+', 'COUNT', count)
    if #entries == 0 then empty() end
    for _, entry in ipairs(entries) do
      local number = numberOf(entry[1])
      if number > last then
        empty()
        break
      end
      first, oldest = number, timeOf(entry[1])
      if not isBeyond(most, mostBytes) then break end
      bytes = math.max(0, bytes - math.max(0, #(messageOf(entry) or '') - 5))
      first = number + 1
      if first > last then empty() end
    end
  end
  if first == from then return end
  redis.call('XTRIM', log, 'MINID', text(first))
  isChanged = true
end
local function keep()
  redis.call('HSET', state, 'epoch', epoch, 'last', text(last), 'time', text(time), 'first', text(first),
    'oldest', text(oldest), 'bytes', text(bytes), 'age', text(age))
end
local function isRewound(knownEpoch, knownLast, knownTime)
  if epoch ~= knownEpoch or knownLast == 0 then return false end
  if last < knownLast then return true end
  if last == knownLast then return time ~= knownTime end
  if knownLast < first then return false end
  local id = text(knownLast) .. '-' .. text(knownTime)
  if #redis.call('XRANGE', log, id, id) > 0 then return false end
  return #redis.call('XRANGE', log, text(knownLast), text(knownLast), 'COUNT', 1) > 0
end
`

/**
 * Appends messages. KEYS: log, state, what this process has appended last. ARGV: a new epoch, number of this append,
 * most messages, greatest age in milliseconds, most bytes, how long the keys stay beyond that in milliseconds, the command
 * that publishes, the channel, an entry that has been there (epoch, number, time), messages. Gives the epoch and the
 * number of the first message. The same append again does nothing, and gives the same.
 */
export const APPEND: Script = makeScript(`${OPEN}
local append, ageMs, stayMs = tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[6])
local said = redis.call('GET', KEYS[3])
if said then
  local number, saidEpoch, saidFirst = string.match(said, '^(%d+) (%S+) (%d+)$')
  if tonumber(number) == append then return {saidEpoch, saidFirst} end
  if number and tonumber(number) > append then return redis.error_reply('STALE this was appended before, or given up') end
end
if isRewound(ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11])) then epoch = ARGV[1] end
age = ageMs * 1000
-- A clock that was put back does not make two entries of a history alike.
if now <= time then now = time + 1 end
for at = 12, #ARGV do
  local id = text(last + 1) .. '-' .. text(now)
  local added = redis.pcall('XADD', log, id, 'm', ARGV[at])
  if type(added) == 'table' and added.err and string.find(added.err, 'equal or smaller', 1, true) then
    -- Somebody else has written to it.
    beginAnew()
    age = ageMs * 1000
    id = '1-' .. text(now)
    added = redis.pcall('XADD', log, id, 'm', ARGV[at])
  end
  if type(added) == 'table' and added.err then return added end
  last = last + 1
  if first == last then oldest = now end
  bytes = bytes + #ARGV[at] - 5
end
time = now
local begin = last - (#ARGV - 12)
trim(tonumber(ARGV[3]), tonumber(ARGV[5]))
keep()
redis.call('PEXPIRE', log, text(ageMs))
redis.call('PEXPIRE', state, text(ageMs + stayMs))
redis.call('SET', KEYS[3], text(append) .. ' ' .. epoch .. ' ' .. text(begin), 'PX', text(stayMs))
for at = 12, #ARGV do
  redis.call(ARGV[7], ARGV[8], epoch .. ' ' .. text(begin + at - 12) .. ' ' .. text(now) .. '\\n' .. ARGV[at])
end
return {epoch, text(begin)}
`)

/**
 * Reads on. KEYS: log, state. ARGV: a new epoch, the number of the entry behind which to begin (-1 for no entries), what
 * is known of this entry (epoch, time; empty for nothing), how long the state stays in milliseconds, most entries, bytes
 * of messages from which on it is enough. Gives epoch, last, time, first, and for each entry its number, its time and its
 * message.
 */
export const READ: Script = makeScript(`${OPEN}
local after, stayMs, most, enough = tonumber(ARGV[2]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
if ARGV[3] ~= '' and isRewound(ARGV[3], after, tonumber(ARGV[4])) then
  epoch = ARGV[1]
  isChanged = true
end
trim(math.huge, math.huge)
if isChanged then keep() end
if redis.call('PTTL', state) < stayMs then redis.call('PEXPIRE', state, text(stayMs)) end
local reply = {epoch, text(last), text(time), text(first)}
local size, from = 0, after + 1
while after >= 0 and from <= last and #reply < 4 + 3 * most and size < enough do
  local entries = redis.call('XRANGE', log, text(from), '+', 'COUNT', 16)
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    local number, message = numberOf(entry[1]), messageOf(entry)
    from = number + 1
    if number > last then break end
    if message then
      reply[#reply + 1] = text(number)
      reply[#reply + 1] = text(timeOf(entry[1]))
      reply[#reply + 1] = message
      size = size + #message
    end
  end
end
return reply
`)
