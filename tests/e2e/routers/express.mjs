// An Express before files, or with "lenient" behind everything that some server makes of a path.
//
//   node express.mjs FOLDER lenient|plain

import { posix } from "node:path";
import express from "express";

const [folder, manner] = process.argv.slice(2);
const app = express();

// What servlet containers, IIS, and proxies that decode before they pass on do, all in one.
function lenient(request, _response, next) {
  let path = request.url.replace(/[?].*/s, "");
  for (let decodings = 0; decodings < 2; decodings += 1) {
    const bytes = path.replace(/%([0-9a-f]{2})/gi, (_, digits) => String.fromCharCode(parseInt(digits, 16)));
    // Overlong UTF-8, as decoders read it that only gather bits.
    path = bytes.replace(/[\xc0\xc1][\x80-\xbf]/g, (two) =>
      String.fromCharCode(((two.charCodeAt(0) & 31) << 6) | (two.charCodeAt(1) & 63)),
    );
    path = path.replace(/[?#\0].*/s, "").replaceAll("\\", "/").replace(/;[^/]*/g, "");
  }
  request.url = posix.normalize(`/${path}`).toLowerCase().replaceAll("%", "%25");
  next();
}

const runs = (what) => (_request, response) => response.type("text").send(`ran:${what}\n`);

if (manner === "lenient") app.use(lenient);
app.use("/admin/health", runs("open"));
app.use("/admin", runs("guarded"));
app.all("/settings", runs("guarded"));
app.use("/public/vault", runs("guarded"));
app.all("/public/report", runs("guarded"));
app.use("/public", express.static(`${folder}/public`), runs("open"));
app.use(runs("open"));
// What is no URL to the router is nobody's.
app.use((_error, _request, response, _next) => response.status(400).send("ran:nothing\n"));

const server = app.listen(0, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${server.address().port}`));
