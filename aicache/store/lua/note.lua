-- note
-- Remember what a call has read of the prompt cache and written to it, and let those go who wait for it at the gate.
-- KEYS: the prefixes, the shortest first; then the gates that may be one's own
-- ARGV: how many prefixes, token ('' = no gate is), the word for those who wait, tokens read, the least share of a
--       prefix's tokens that means it was read; then for each that ends at a breakpoint: which, its life in ms, its
--       tokens (0 = too short to be kept), whether they are exact, whether it was written or else read
-- → for each that lived before: which, ms since it was written, its tokens, whether they were exact, whether it was read,
--   whether who wrote it has said so
local count, read = tonumber(ARGV[1]), tonumber(ARGV[4])
local clock = redis.call('TIME')
local now = math.floor(clock[1] * 1000 + clock[2] / 1000)
local reply, longest = {}, 0
for i = 1, count do
  local since, tokens, exact, known, told = unpack(redis.call('HMGET', KEYS[i], 'at', 'tokens', 'exact', 'read', 'told'))
  if since and tonumber(tokens) > 0 then
    longest = i
    for _, word in ipairs({i, now - tonumber(since), tonumber(tokens), tonumber(exact), tonumber(known), tonumber(told)}) do
      table.insert(reply, word)
    end
  end
end
if longest > 0 and read > 0 then
  local key = KEYS[longest]
  local tokens, exact, life = unpack(redis.call('HMGET', key, 'tokens', 'exact', 'life'))
  if exact == '0' or read >= tonumber(tokens) * tonumber(ARGV[5]) then
    redis.call('HSET', key, 'read', 1)
    redis.call('PEXPIRE', key, life) -- the provider lets it live on too
  end
end

for i = 6, #ARGV, 5 do
  local key, life, tokens, exact, told = KEYS[tonumber(ARGV[i])], unpack(ARGV, i + 1, i + 4)
  local known = redis.call('HGET', key, 'tokens')
  if not known or (known == '0' and tokens ~= '0') then
    redis.call('DEL', key)
    redis.call('HSET', key, 'at', now, 'tokens', tokens, 'exact', exact, 'read', 0, 'told', told, 'life', life)
    redis.call('PEXPIRE', key, life)
  elseif tokens ~= '0' then
    if exact == '1' then
      redis.call('HSET', key, 'tokens', tokens, 'exact', 1)
    end
    if told == '1' then
      redis.call('HSET', key, 'told', 1)
    end
    if redis.call('PTTL', key) < tonumber(life) then
      redis.call('HSET', key, 'life', life)
      redis.call('PEXPIRE', key, life)
    end
  end
end

local ears = {}
for i = count + 1, #KEYS do
  if ARGV[2] ~= '' and redis.call('HGET', KEYS[i], 'token') == ARGV[2] then
    for _, ear in ipairs(redis.call('HKEYS', KEYS[i])) do
      if string.find(ear, ':', 1, true) and not ears[ear] then
        ears[ear] = true
        redis.pcall('PUBLISH', ear, ARGV[2] .. ARGV[3])
      end
    end
    redis.call('DEL', KEYS[i])
  end
end
return reply
