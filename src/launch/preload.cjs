'use strict';
// Written by Keyferry for the programs it starts, and loaded into each Node before they are.
//
// Node before 22.21 and 24.5 reads no proxy variable, and libraries that open their own TLS sockets
// (WebSocket clients, HTTP/2) pass by the one that does. So every TLS connection to another host
// goes through a tunnel of the proxy, and every plain HTTP request is sent to the proxy.
(function keyferry() {
  const { versions, env } = process;
  // These have a Node interface and read the variables themselves.
  if (versions.bun || versions.deno) return;
  const given = env.HTTPS_PROXY || env.https_proxy;
  if (!given) return;
  let proxy;
  try {
    proxy = new URL(given);
  } catch (_) {
    return;
  }
  if (proxy.protocol !== 'http:') return;

  const net = require('net');
  const tls = require('tls');
  const http = require('http');
  const { Duplex } = require('stream');

  const proxyHost = proxy.hostname.replace(/^\[|\]$/g, '');
  const proxyPort = Number(proxy.port || 80);
  const credentials = decodeURIComponent(proxy.username) + ':' + decodeURIComponent(proxy.password);
  const authorization = proxy.username ? 'Basic ' + Buffer.from(credentials).toString('base64') : undefined;

  const [major, minor] = versions.node.split('.').map(Number);
  const native =
    env.NODE_USE_ENV_PROXY === '1' && (major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21));

  // Loopback and what NO_PROXY names, by host or by suffix.
  function isDirect(host, port) {
    const name = String(host).replace(/^\[|\]$/g, '').toLowerCase();
    if (name === 'localhost' || name.endsWith('.localhost') || name === '::1' || name === '0.0.0.0') return true;
    if (net.isIPv4(name) && name.startsWith('127.')) return true;
    if (name === proxyHost && Number(port) === proxyPort) return true;
    const listed = (env.NO_PROXY || env.no_proxy || '').toLowerCase().split(/[\s,]+/).filter(Boolean);
    return listed.some((entry) => {
      const suffix = entry.replace(/^\*?\./, '');
      return entry === '*' || name === suffix || (entry !== suffix && name.endsWith('.' + suffix));
    });
  }

  function bracketed(host) {
    return net.isIPv6(host) ? '[' + host + ']' : host;
  }

  // A stream to `host:port` through the proxy. Whoever made it may write at once, and sees nothing
  // of the exchange with the proxy but its refusal.
  class Tunnel extends Duplex {
    constructor(host, port) {
      super();
      this.authority = bracketed(host) + ':' + port;
      this.connecting = true;
      this.head = Buffer.alloc(0);
      this.waiting = undefined;
      this.raw = net.connect({ host: proxyHost, port: proxyPort });
      this.raw.setNoDelay(true);
      this.raw.on('connect', () => {
        const lines = ['CONNECT ' + this.authority + ' HTTP/1.1', 'Host: ' + this.authority];
        if (authorization) lines.push('Proxy-Authorization: ' + authorization);
        this.raw.write(lines.join('\r\n') + '\r\n\r\n');
      });
      this.raw.on('data', (chunk) => {
        if (this.connecting) this.answer(chunk);
        else if (!this.push(chunk)) this.raw.pause();
      });
      this.raw.on('end', () => {
        if (this.connecting) this.refused(true);
        else this.push(null);
      });
      this.raw.on('error', (error) => this.destroy(error));
    }

    // Takes the proxy's answer as it comes; what follows the head of a good one is the tunnel's.
    answer(chunk) {
      this.head = Buffer.concat([this.head, chunk]);
      const end = this.head.indexOf('\r\n\r\n');
      if (end < 0) {
        if (this.head.length > 65536) this.destroy(new Error('the proxy answered CONNECT with an endless head'));
        return;
      }
      if (!/^HTTP\/1\.[01] 2\d\d\b/.test(this.head.toString('latin1', 0, 16))) {
        this.refused(false);
        return;
      }
      const rest = this.head.subarray(end + 4);
      this.head = undefined;
      this.connecting = false;
      if (rest.length > 0) this.push(rest);
      this.emit('connect');
      const waiting = this.waiting;
      this.waiting = undefined;
      if (waiting) waiting();
    }

    // Tells the program what the proxy said, once all of it is there.
    refused(ended) {
      const text = this.head.toString('utf8');
      const end = text.indexOf('\r\n\r\n');
      const length = /^content-length:\s*(\d+)/im.exec(text.slice(0, end + 2));
      const body = end < 0 ? '' : text.slice(end + 4);
      const whole = length ? Buffer.byteLength(body) >= Number(length[1]) : false;
      if (!ended && !whole && body.length < 16384) return;
      const status = text.split('\r\n', 1)[0].replace(/^HTTP\/1\.[01] /, '') || 'no answer';
      let said;
      try {
        said = JSON.parse(body);
      } catch (_) {
        said = {};
      }
      const reason = [said.message, said.hint].filter(Boolean).join('; ') || status;
      const error = new Error('the proxy refused ' + this.authority + ': ' + reason);
      error.code = 'ERR_PROXY_TUNNEL';
      error.statusCode = parseInt(status, 10) || undefined;
      if (said.error) error.reason = said.error;
      this.destroy(error);
    }

    _read() {
      if (!this.connecting) this.raw.resume();
    }

    _write(chunk, encoding, done) {
      if (this.connecting) this.waiting = () => this.raw.write(chunk, encoding, done);
      else this.raw.write(chunk, encoding, done);
    }

    _final(done) {
      if (this.connecting) this.waiting = () => this.raw.end(done);
      else this.raw.end(done);
    }

    _destroy(error, done) {
      this.raw.destroy();
      done(error);
    }
  }

  // --- TLS: https, fetch, http2, WebSocket clients
  const secureConnect = tls.connect;
  function connect(...given) {
    const options = {};
    let port = true;
    for (const one of given) {
      if (typeof one === 'object' && one !== null) Object.assign(options, one);
      else if (port && (typeof one === 'number' || /^\d+$/.test(one))) options.port = Number(one);
      else if (typeof one === 'string') options[port ? 'path' : 'host'] = one;
      port = false;
    }
    const done = given.find((one) => typeof one === 'function');
    const host = options.host || 'localhost';
    if (options.socket || options.path || !options.port || isDirect(host, options.port)) {
      return secureConnect.apply(this, given);
    }
    const tunnel = new Tunnel(host, options.port);
    options.socket = tunnel;
    if (options.servername === undefined && !net.isIP(host)) options.servername = host;
    const socket = secureConnect.call(this, options, done);
    tunnel.once('error', (error) => socket.destroy(error));
    // Idle connections must not keep a finished program alive.
    const { ref, unref } = socket;
    socket.ref = function () {
      tunnel.raw.ref();
      return ref.call(this);
    };
    socket.unref = function () {
      tunnel.raw.unref();
      return unref.call(this);
    };
    if (options.timeout) socket.setTimeout(options.timeout);
    return socket;
  }
  tls.connect = connect;

  plainRequests();
  if (!native) plainFetch();
  // For those who import by name.
  require('module').syncBuiltinESMExports();

  // --- http.request
  function plainRequests() {
    const addRequest = http.Agent.prototype.addRequest;
    http.Agent.prototype.addRequest = function (request, options, ...more) {
      // Where Node proxies by itself, it does so for its own agent only.
      const handled = native && (this === http.globalAgent || (this.options && this.options.proxyEnv));
      const ours = !handled && options !== null && typeof options === 'object' && this.protocol === 'http:';
      const host = ours ? options.host || options.hostname || 'localhost' : 'localhost';
      const port = ours ? options.port || 80 : 80;
      // A path that is a whole URL already speaks to a proxy.
      const plain = ours && !options.socketPath && request.method !== 'CONNECT' && String(request.path).startsWith('/');
      if (!plain || isDirect(host, port)) return addRequest.call(this, request, options, ...more);
      const path = request.path;
      request.path = 'http://' + bracketed(host) + (Number(port) === 80 ? '' : ':' + port) + path;
      if (typeof request._header === 'string') {
        // Headers given as a list are on paper already.
        const line = authorization ? 'Proxy-Authorization: ' + authorization + '\r\n' : '';
        const first = request._header.indexOf('\r\n') + 2;
        const start = request._header.slice(0, first).replace(' ' + path + ' ', () => ' ' + request.path + ' ');
        request._header = start + line + request._header.slice(first);
      } else if (authorization) {
        request.setHeader('Proxy-Authorization', authorization);
      }
      return addRequest.call(this, request, Object.assign({}, options, { host: proxyHost, port: proxyPort }), ...more);
    };
  }

  // --- fetch('http://…'): its connections are made where no patch reaches, so the dispatcher is
  // wrapped, at the first call: loading it takes longer than many programs run.
  function plainFetch() {
    const fetch = globalThis.fetch;
    if (typeof fetch !== 'function') return;
    const key = Symbol.for('undici.globalDispatcher.1');
    const seen = new WeakSet();
    function wrap() {
      void globalThis.Headers; // loads it
      const inner = globalThis[key];
      // One that a program has put there knows its own way.
      if (!inner || seen.has(inner) || inner.constructor.name !== 'Agent') return;
      const outer = Object.create(inner);
      outer.dispatch = function (options, receiver) {
        const origin = new URL(String(options.origin));
        if (origin.protocol !== 'http:' || isDirect(origin.hostname, origin.port || 80)) {
          return inner.dispatch(options, receiver);
        }
        const headers = pairs(options.headers).filter(([name]) => !/^(host|proxy-authorization)$/i.test(name));
        headers.push(['host', origin.host]);
        if (authorization) headers.push(['proxy-authorization', authorization]);
        const path = origin.origin + options.path;
        const changed = { origin: 'http://' + bracketed(proxyHost) + ':' + proxyPort, path, headers: headers.flat() };
        return inner.dispatch(Object.assign({}, options, changed), receiver);
      };
      for (const name of ['close', 'destroy']) outer[name] = (...more) => inner[name](...more);
      seen.add(outer);
      globalThis[key] = outer;
    }
    globalThis.fetch = function (...more) {
      wrap();
      return fetch.apply(this, more);
    };
  }

  // Headers as the dispatcher takes them: a flat list, pairs, or an object.
  function pairs(headers) {
    if (!headers) return [];
    if (Array.isArray(headers) && !Array.isArray(headers[0])) {
      return headers.reduce((all, one, at) => (at % 2 ? all[all.length - 1].push(one) : all.push([one])) && all, []);
    }
    if (typeof headers[Symbol.iterator] === 'function') return Array.from(headers, ([name, value]) => [name, value]);
    return Object.entries(headers);
  }
})();
