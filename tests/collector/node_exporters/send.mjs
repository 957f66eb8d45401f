// Sends two spans through an official JavaScript exporter, and prints what it sent.
//
//   node send.mjs http|proto URL [none|gzip]
//
// `http` sends OTLP/JSON, `proto` protobuf. The output is one JSON document,
// {"spans": [...]}, in the form that tests/collector/exporter_twin.py describes.
import { SpanKind, SpanStatusCode, TraceFlags, context, trace } from '@opentelemetry/api';
import { OTLPTraceExporter as JsonExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtobufExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BasicTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';

const [kind, url, compression = 'none'] = process.argv.slice(2);

const RESOURCE = { 'service.name': 'node-exporter', 'deployment.environment.name': 'test', 'host.cpus': 4 };
const SCOPE = { name: 'pyflare.exporter-test', version: '1.2.3' };
const START = [1760000000, 123456789];
const EVENT = [1760000000, 500000001];
const END = [1760000001, 987654321];

const ATTRIBUTES = {
  'text': 'plain',
  'text.empty': '',
  'text.unicode': 'naïve 日本語 🦩 \u0000 "quoted" \\ \n\t\u2028',
  'bool.true': true,
  'bool.false': false,
  'int': 42,
  'int.zero': 0,
  'int.negative': -7,
  // JavaScript has one type of number, and the exporter sends a whole one as an integer.
  'int.from.whole.double': 1.0,
  'int.safe.max': Number.MAX_SAFE_INTEGER,
  'int.over.safe': 2 ** 60,
  'double': 0.1,
  'double.tiny': 5e-324,
  'double.negative': -2.5e-10,
  'array.text': ['a', '', 'ü'],
  'array.int': [1, -2, 3],
  'array.double': [0.5, 1.5],
  'array.bool': [true, false],
  'array.empty': [],
  'gen_ai.request.model': 'gpt-4o',
};

// The API takes no such values, the exporter does: they are put into the span past the API.
const BEYOND_THE_API = {
  'bytes': new Uint8Array([0, 255, 127, 10]),
  'map': { 'inner': { 'deep': [1, 'two', false] }, 'n': 1.5 },
  'array.mixed': [1, 'two', 2.5, true, ['nested']],
};

const LINKED = {
  traceId: '0123456789abcdef0123456789abcdef',
  spanId: 'fedcba9876543210',
  traceFlags: TraceFlags.SAMPLED,
};

function anyValue(value) {
  if (typeof value === 'string') return { stringValue: value };
  if (typeof value === 'boolean') return { boolValue: value };
  if (typeof value === 'number') {
    if (!Number.isInteger(value)) return { doubleValue: value };
    // JSON has the shortest digits that name the same double: 2 ** 60 ends in 847000, not in 846976.
    return { intValue: kind === 'http' ? JSON.stringify(value) : BigInt(value).toString() };
  }
  if (value instanceof Uint8Array) return { bytesValue: Buffer.from(value).toString('base64') };
  if (Array.isArray(value)) return { arrayValue: { values: value.map(anyValue) } };
  return { kvlistValue: { values: keyValues(value) } };
}

function keyValues(attributes) {
  return Object.entries(attributes).map(([key, value]) => ({ key, value: anyValue(value) }));
}

const nanoseconds = ([seconds, nanos]) => (BigInt(seconds) * 1000000000n + BigInt(nanos)).toString();

const Exporter = { http: JsonExporter, proto: ProtobufExporter }[kind];
const exporter = new Exporter({ url, compression, timeoutMillis: 10000 });
const results = [];
const watched = {
  export: (spans, done) => exporter.export(spans, (result) => { results.push(result); done(result); }),
  forceFlush: () => exporter.forceFlush(),
  shutdown: () => exporter.shutdown(),
};
const provider = new BasicTracerProvider({
  resource: resourceFromAttributes(RESOURCE),
  spanProcessors: [new SimpleSpanProcessor(watched)],
});
const tracer = provider.getTracer(SCOPE.name, SCOPE.version);

const root = tracer.startSpan('root', { kind: SpanKind.CLIENT, startTime: START, attributes: ATTRIBUTES });
Object.assign(root.attributes, BEYOND_THE_API);
root.addEvent('first', { 'n': 1, 'text': 'événement' }, EVENT);
root.addEvent('second', {}, EVENT);
root.setStatus({ code: SpanStatusCode.ERROR, message: 'it failed: ü' });
const child = tracer.startSpan(
  'child',
  { kind: SpanKind.INTERNAL, startTime: START, links: [{ context: LINKED, attributes: { 'why': 'retry' } }] },
  trace.setSpan(context.active(), root),
);
child.setStatus({ code: SpanStatusCode.OK });
child.end(END);
root.end(END);
await provider.forceFlush();
await provider.shutdown();

const failed = results.find((result) => result.code !== 0);
if (failed || results.length !== 2) {
  console.error(failed?.error ?? `${results.length} exports`);
  process.exit(1);
}

const document = (span, parent, fields) => ({
  traceId: span.spanContext().traceId,
  spanId: span.spanContext().spanId,
  parentSpanId: parent ? parent.spanContext().spanId : '',
  startTimeUnixNano: nanoseconds(START),
  endTimeUnixNano: nanoseconds(END),
  resource: keyValues(RESOURCE),
  scope: SCOPE,
  attributes: [],
  events: [],
  links: [],
  ...fields,
});
console.log(JSON.stringify({
  spans: [
    document(root, null, {
      name: 'root',
      kind: 3,
      status: { code: 2, message: 'it failed: ü' },
      attributes: keyValues({ ...ATTRIBUTES, ...BEYOND_THE_API }),
      events: [
        { name: 'first', timeUnixNano: nanoseconds(EVENT), attributes: keyValues({ 'n': 1, 'text': 'événement' }) },
        { name: 'second', timeUnixNano: nanoseconds(EVENT), attributes: [] },
      ],
    }),
    document(child, root, {
      name: 'child',
      kind: 1,
      status: { code: 1, message: '' },
      links: [{ traceId: LINKED.traceId, spanId: LINKED.spanId, attributes: keyValues({ 'why': 'retry' }) }],
    }),
  ],
}));
