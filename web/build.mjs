/**
 * Bundle the page: node build.mjs FOLDER writes index.html and assets/ there.
 *
 * What always holds: the same sources and packages give the same bytes; an asset's name has a hash of what is
 * in it, so that it may be kept by browsers for ever; nothing is fetched from elsewhere at run time.
 */

import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const LICENCES = "licences.txt";
/** What an earlier call wrote; other files of the folder stay. */
const OURS = /^(main|icon)-[0-9a-f]{10}\.(js|css|svg)$/;

const folder = process.argv[2];
if (folder === undefined) throw new Error("say where to: node build.mjs FOLDER");

const bundle = await build({
  absWorkingDir: HERE,
  entryPoints: ["src/main.ts"],
  outdir: "out",
  bundle: true,
  minify: true,
  write: false,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  banner: {
    js: `/* HeliosDB federated learning: GPL-3.0-or-later. Contains uPlot: MIT, see ${LICENCES}. */`,
  },
});

const files = new Map(bundle.outputFiles.map((file) => [basename(file.path), Buffer.from(file.contents)]));
files.set("icon.svg", await readFile(join(HERE, "src/icon.svg")));

const assets = join(folder, "assets");
await mkdir(assets, { recursive: true });
for (const old of await readdir(assets)) if (OURS.test(old)) await rm(join(assets, old));
let index = await readFile(join(HERE, "src/index.html"), "utf8");
for (const [name, contents] of files) {
  const hash = createHash("sha256").update(contents).digest("hex").slice(0, 10);
  const kind = extname(name);
  const hashed = `${basename(name, kind)}-${hash}${kind}`;
  index = index.replaceAll(`%${name}%`, hashed);
  await writeFile(join(assets, hashed), contents);
}
await writeFile(join(folder, "index.html"), index);
const uplot = await readFile(join(HERE, "node_modules/uplot/LICENSE"), "utf8");
await writeFile(join(assets, LICENCES), `uPlot\n\n${uplot}`);
