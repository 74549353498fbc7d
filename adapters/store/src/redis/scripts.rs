//! One script per conditional write.
//!
//! A script sees the record as text. It compares versions without parsing it where it can: our records
//! begin with their version, and nothing inside a JSON text can look like its beginning. Records of the
//! original are parsed. A stored record that is not JSON has no version, so every expectation fails and
//! the caller, who is shown it, says what is wrong with it.
//!
//! Writes come first, so that one which the server refuses (`OOM`) has changed nothing.

use ::redis::{Cmd, Script, ToRedisArgs, cmd};

/// `version(record)`: the version of a stored record as decimal text; `''` if there is no record.
const VERSION: &str = r#"
local function version(record)
  if not record then return '' end
  local ours = string.match(record, '^{"version":"(%d+)"')
  if ours then return ours end
  local parsed, fields = pcall(cjson.decode, record)
  if not parsed or type(fields) ~= 'table' then return nil end
  local found = fields.version or 0
  if type(found) == 'number' then return string.format('%.0f', found) end
  return tostring(found)
end
"#;

/// `edition(record)`: the version and the incarnation of a stored actor, and the acquisition under which it was
/// last written, as in `4/7/nobody`; `''` if there is none. A record of the original has no incarnation, which is
/// the zeroth, and was written under none.
const EDITION: &str = r#"
local function edition(record)
  local found = version(record)
  if not record or not found then return found end
  local ours = '"holdfast":{"v":1,"incarnation":"(%d+)"'
  local life, claim = string.match(record, ours .. ',"claim":{"token":"(%x+%-%d+)"')
  life = life or string.match(record, ours) or '0'
  return found .. '/' .. life .. '/' .. (claim or 'nobody')
end
"#;

/// `KEYS`: actor, and its lease if one is to end. `ARGV`: expected edition or `''`, record, token to release; of a
/// new one also channel and announcement. Answers 1, or what is stored.
const PUT_ACTOR: &str = r#"
local stored = redis.call('GET', KEYS[1])
if edition(stored) ~= ARGV[1] then return stored end
redis.call('SET', KEYS[1], ARGV[2])
if KEYS[2] and redis.call('GET', KEYS[2]) == ARGV[3] then redis.call('DEL', KEYS[2]) end
if ARGV[4] then redis.call('PUBLISH', ARGV[4], ARGV[5]) end
return 1
"#;

/// `KEYS`: actor, lease. `ARGV`: expected edition, token to release, channel, announcement. Answers 1, or what is
/// stored.
const DELETE_ACTOR: &str = r#"
local stored = redis.call('GET', KEYS[1])
if edition(stored) ~= ARGV[1] then return stored end
redis.call('DEL', KEYS[1])
if redis.call('GET', KEYS[2]) == ARGV[2] then redis.call('DEL', KEYS[2]) end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
"#;

/// `KEYS`: lease, actor. `ARGV`: token, milliseconds to live, token that may be taken from or `''`.
/// Answers `{1, actor}`, or `{0, holder}`.
const ACQUIRE: &str = r#"
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] and holder ~= ARGV[3] then return {0, holder} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, redis.call('GET', KEYS[2])}
"#;

/// `KEYS`: lease. `ARGV`: token, milliseconds to live. Answers 1, or 0 if the lease is not the token's.
const RENEW: &str = r#"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"#;

/// `KEYS`: lease. `ARGV`: token. Answers how many leases ended.
const RELEASE: &str = r#"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"#;

/// `worker_edition(record)`: the version of a stored worker and whom it is promised to, as in `4/nobody` or
/// `4/space:actor:7:4` with the life of the actor and the fence; `''` if there is no record. A promise in a record
/// of the original has no life and no fence, which are zeros.
const WORKER_EDITION: &str = r#"
local function worker_edition(record)
  if not record then return '' end
  local parsed, fields = pcall(cjson.decode, record)
  if not parsed or type(fields) ~= 'table' then return nil end
  local function count(number)
    if type(number) == 'number' then return string.format('%.0f', number) end
    return tostring(number or '0')
  end
  local actor = fields.actorId or fields.actor_id or ''
  local promise = actor ~= '' and {incarnation = '0', fence = '0'}
  if type(fields.holdfast) == 'table' then promise = fields.holdfast.hosts end
  local edition = count(fields.version) .. '/'
  if type(promise) ~= 'table' then return edition .. 'nobody' end
  local atespace = fields.actorAtespace or fields.actor_atespace or ''
  local terms = {atespace, actor, count(promise.incarnation), count(promise.fence)}
  return edition .. table.concat(terms, ':')
end
"#;

/// `KEYS`: worker. `ARGV`: expected edition or `''`, record, channel, announcement.
/// Answers 1, or what is stored.
const PUT_WORKER: &str = r#"
local stored = redis.call('GET', KEYS[1])
if worker_edition(stored) ~= ARGV[1] then return stored end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
"#;

/// `KEYS`: worker. `ARGV`: expected edition, channel, announcement. Answers 1, or what is stored.
const DELETE_WORKER: &str = r#"
local stored = redis.call('GET', KEYS[1])
if worker_edition(stored) ~= ARGV[1] then return stored end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1
"#;

/// `node(record)`: the fields of a node's record, its counts as plain decimal text; `nil` if it is no such
/// record of a format that we know. `less(a, b)`: whether one count is below another. (A number of Lua has
/// no room for 64 bits, but for a version, which counts from one.) `write(row, channel)`: stores the row as its
/// record and tells it, and answers its version.
const NODE: &str = r#"
local function less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end
local function node(record)
  local parsed, fields = pcall(cjson.decode, record)
  if not parsed or type(fields) ~= 'table' then return nil end
  if type(fields.holdfast) ~= 'table' or fields.holdfast.v ~= 1 then return nil end
  for _, name in ipairs({'sequence', 'session', 'lapsed', 'version'}) do
    local count = fields[name] or '0'
    if type(count) == 'number' then count = string.format('%.0f', count) end
    count = type(count) == 'string' and string.match(count, '^0*(%d+)$')
    if not count then return nil end
    fields[name] = count
  end
  return fields
end
local function write(row, channel)
  local record = cjson.encode(row)
  redis.call('SET', KEYS[1], record)
  redis.call('PUBLISH', channel, record)
  return tonumber(row.version)
end
"#;

/// `NodeRow::after`. `KEYS`: node. `ARGV`: record, channel. Answers the version of the row, or what is stored.
const PUT_NODE: &str = r#"
local stored, row = redis.call('GET', KEYS[1]), node(ARGV[1])
local known = stored and node(stored)
if not row or (stored and not known) then return stored end
row.version = '1'
if known then
  local lapsed = row.lapsed
  if less(lapsed, known.lapsed) then lapsed = known.lapsed end
  if row.session ~= '0' and not less(lapsed, row.session) then return stored end
  if row.incarnation == known.incarnation and not less(known.sequence, row.sequence) then
    row = known
  else
    row.version = string.format('%.0f', tonumber(known.version) + 1)
  end
  row.lapsed = lapsed
end
return write(row, ARGV[2])
"#;

/// `NodeRow::lapse`. `KEYS`: node. `ARGV`: record, channel. Answers the version of the row, or what is stored.
const LAPSE_NODE: &str = r#"
local stored, known = redis.call('GET', KEYS[1]), node(ARGV[1])
local row = known
if stored then row = node(stored) end
if not row then return stored end
for _, name in ipairs({'incarnation', 'sequence', 'version'}) do
  if row[name] ~= known[name] then return stored end
end
if less(row.lapsed, row.session) then row.lapsed = row.session end
return write(row, ARGV[2])
"#;

/// A script, and what it has to say to the server: its hash, or itself if the server has not got it yet.
pub(super) struct Call<'a> {
    script: &'a Text,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

impl Call<'_> {
    pub(super) fn key(mut self, key: String) -> Self {
        self.keys.push(key);
        self
    }

    pub(super) fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.args.extend(arg.to_redis_args());
        self
    }

    /// The slot of all its keys is that of the first.
    pub(super) fn first_key(&self) -> &str {
        &self.keys[0]
    }

    pub(super) fn command(&self, wants_script: bool, more: &[String]) -> Cmd {
        let mut command = if wants_script {
            cmd("EVAL").arg(&self.script.text).take()
        } else {
            cmd("EVALSHA").arg(self.script.hashed.get_hash()).take()
        };
        command.arg(self.keys.len()).arg(&self.keys).arg(&self.args);
        command.arg(more).take()
    }
}

/// A script as it is written, and its hash.
pub(super) struct Text {
    text: String,
    hashed: Script,
}

impl Text {
    fn new(text: String) -> Text {
        let hashed = Script::new(&text);
        Text { text, hashed }
    }

    pub(super) fn call(&self) -> Call<'_> {
        Call {
            script: self,
            keys: vec![],
            args: vec![],
        }
    }
}

/// Every script.
pub(super) struct Scripts {
    pub(super) put_actor: Text,
    pub(super) delete_actor: Text,
    pub(super) acquire: Text,
    pub(super) renew: Text,
    pub(super) release: Text,
    pub(super) put_worker: Text,
    pub(super) delete_worker: Text,
    pub(super) put_node: Text,
    pub(super) lapse_node: Text,
}

impl Default for Scripts {
    fn default() -> Self {
        let of_actors = |body: &str| Text::new(format!("{VERSION}{EDITION}{body}"));
        let of_workers = |body: &str| Text::new(format!("{WORKER_EDITION}{body}"));
        let of_nodes = |body: &str| Text::new(format!("{NODE}{body}"));
        Scripts {
            put_actor: of_actors(PUT_ACTOR),
            delete_actor: of_actors(DELETE_ACTOR),
            acquire: Text::new(ACQUIRE.into()),
            renew: Text::new(RENEW.into()),
            release: Text::new(RELEASE.into()),
            put_worker: of_workers(PUT_WORKER),
            delete_worker: of_workers(DELETE_WORKER),
            put_node: of_nodes(PUT_NODE),
            lapse_node: of_nodes(LAPSE_NODE),
        }
    }
}
