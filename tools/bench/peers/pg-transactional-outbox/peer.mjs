// Two hops with pg-transactional-outbox and amqplib; see ../README.md. Outbox and inbox are polled, since replication needs another wal_level.

import { randomUUID } from 'node:crypto';
import amqplib from 'amqplib';
import pg from 'pg';
import transactional from 'pg-transactional-outbox';

const { DatabaseSetup, executeTransaction, getDisabledLogger, initializeMessageStorage, initializePollingMessageListener, IsolationLevel } = transactional;
const EVENTS = Number(process.env.EVENTS);
const AT_ONCE = 16;
const connectionString = process.env.DATABASE_URL;
const logger = getDisabledLogger();
const pool = new pg.Pool({ connectionString, max: 24 });

const settings = (table, protects) => ({
  dbSchema: 'public',
  dbTable: table,
  enableMaxAttemptsProtection: protects,
  enablePoisonousMessageProtection: protects,
  nextMessagesBatchSize: 50,
  nextMessagesFunctionName: `next_${table}_messages`,
  // A message whose row another poll holds at that moment fails, and is tried again after this time.
  nextMessagesLockInMs: 500,
  nextMessagesPollingIntervalInMs: 20,
});
const config = (outboxOrInbox) => ({
  outboxOrInbox,
  dbHandlerConfig: { connectionString, max: 16 },
  dbListenerConfig: { connectionString, max: 16 },
  settings: settings(outboxOrInbox, outboxOrInbox === 'inbox'),
});
const storeOutbox = initializeMessageStorage(config('outbox'), logger);
const storeInbox = initializeMessageStorage(config('inbox'), logger);

const message = (messageType, order) => ({
  id: randomUUID(),
  aggregateType: 'order',
  aggregateId: order,
  messageType,
  concurrency: 'parallel',
  payload: { id: order },
});

async function setUp() {
  for (const outboxOrInbox of ['outbox', 'inbox']) {
    const setup = {
      outboxOrInbox,
      database: 'unused',
      schema: 'public',
      table: outboxOrInbox,
      listenerRole: 'unused',
      nextMessagesSchema: 'public',
      nextMessagesName: `next_${outboxOrInbox}_messages`,
    };
    await pool.query(DatabaseSetup.dropAndCreateTable(setup));
    await pool.query(DatabaseSetup.createPollingFunction(setup));
    await pool.query(DatabaseSetup.setupPollingIndexes(setup));
  }
}

/** Brings the events of the outbox into the queue that their type names, and waits for the confirm of each. */
async function relay(connection) {
  const channel = await connection.createConfirmChannel();
  const handle = ({ id, aggregateType, aggregateId, messageType, concurrency, payload }) =>
    new Promise((resolve, reject) => {
      const body = Buffer.from(JSON.stringify({ id, aggregateType, aggregateId, messageType, concurrency, payload }));
      const options = { persistent: true, mandatory: true, messageId: id };
      channel.sendToQueue(messageType, body, options, (error) => (error ? reject(error) : resolve()));
    });
  return initializePollingMessageListener(config('outbox'), { handle }, logger);
}

/** Puts what comes into the inbox, from which the handlers take it. */
async function receive(connection) {
  const channel = await connection.createChannel();
  await channel.prefetch(256);
  for (const queue of ['one', 'two']) {
    await channel.consume(queue, async (delivery) => {
      const incoming = JSON.parse(delivery.content.toString());
      await executeTransaction(await pool.connect(), (client) => storeInbox(incoming, client), IsolationLevel.ReadCommitted);
      channel.ack(delivery);
    });
  }
}

function handle() {
  const one = async ({ payload }, client) => {
    await client.query('insert into first values ($1)', [payload.id]);
    await storeOutbox(message('two', payload.id), client);
  };
  const two = async ({ payload }, client) => {
    await client.query('insert into second values ($1)', [payload.id]);
  };
  const handlers = [
    { aggregateType: 'order', messageType: 'one', handle: one },
    { aggregateType: 'order', messageType: 'two', handle: two },
  ];
  const strategies = { messageProcessingTransactionLevelStrategy: () => IsolationLevel.ReadCommitted };
  return initializePollingMessageListener(config('inbox'), handlers, logger, strategies);
}

async function place(numbers) {
  for (let { done } = numbers.next(); !done; { done } = numbers.next()) {
    const order = randomUUID();
    const write = async (client) => {
      await client.query('insert into placed values ($1)', [order]);
      await storeOutbox(message('one', order), client);
    };
    await executeTransaction(await pool.connect(), write, IsolationLevel.ReadCommitted);
  }
}

await setUp();
const connection = await amqplib.connect(process.env.AMQP_URL);
await relay(connection);
await receive(connection);
handle();
const begin = performance.now();
const numbers = Array(EVENTS).keys();
await Promise.all(Array.from({ length: AT_ONCE }, () => place(numbers)));
for (;;) {
  const { rows } = await pool.query('select count(*)::int as there from second');
  if (rows[0].there >= EVENTS) break;
  await new Promise((resolve) => setTimeout(resolve, 20));
}
console.log(JSON.stringify({ per_second: EVENTS / ((performance.now() - begin) / 1000) }));
process.exit(0);
