// Draws captioned 16x16 portraits: node draw.mjs COUNT PALETTE.json OUT_FOLDER
// Every choice is made here, from one seeded generator, and handed to DiceBear as the only option, so that a caption
// names exactly what is drawn. Writes pixels.rgb (COUNT x 16 x 16 x 3 bytes) and captions.txt (one a line).
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createAvatar } from '@dicebear/core';
import * as pixelArt from '@dicebear/pixel-art';
import { Resvg } from '@resvg/resvg-js';

const [count, palettePath, out] = [Number(process.argv[2]), process.argv[3], process.argv[4]];
const palette = JSON.parse(readFileSync(palettePath, 'utf8'));

// Only shapes that show their colour clearly at 16x16, and whose name is plain to see.
const SHORT = ['short01', 'short02', 'short04', 'short06', 'short14', 'short15', 'short16', 'short17', 'short22'];
const LONG = ['long01', 'long04', 'long07', 'long08', 'long09', 'long12', 'long13', 'long20', 'long21'];
const SHIRTS = ['variant01', 'variant03', 'variant04', 'variant05', 'variant11', 'variant12', 'variant14', 'variant23'];
const HATS = ['variant01', 'variant05', 'variant06', 'variant07', 'variant08', 'variant09', 'variant10'];
const GLASSES = ['light05', 'light06', 'light07'];
const BEARDS = ['variant01', 'variant03', 'variant05', 'variant06', 'variant08'];
const EYES = ['variant01', 'variant06', 'variant09', 'variant11'];
const MOUTHS = ['happy01', 'happy06', 'happy09', 'happy12', 'sad06', 'sad09'];

function generator(seed) {
  // mulberry32: 32 bits of state, the same numbers on every machine
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const random = generator(16);
const pick = (list) => list[Math.floor(random() * list.length)];
const chance = (p) => random() < p;

function person() {
  const hat = chance(0.12);
  const long = !hat && chance(0.5); // a hat hides the hair: it is short there, and the caption does not name it
  return {
    hair: pick(Object.keys(palette.hair)), skin: pick(Object.keys(palette.skin)), shirt: pick(Object.keys(palette.clothing)),
    hat: hat ? pick(Object.keys(palette.clothing)) : null, long, glasses: chance(0.25), beard: !long && chance(0.35),
    shapes: { hair: pick(long ? LONG : SHORT), clothing: pick(SHIRTS), hat: pick(HATS), glasses: pick(GLASSES),
      beard: pick(BEARDS), eyes: pick(EYES), mouth: pick(MOUTHS) },
  };
}

function draw(who) {
  const hex = (part, word) => [palette[part][word].slice(1)];
  const shapes = Object.fromEntries(Object.entries(who.shapes).map(([part, shape]) => [part, [shape]]));
  const svg = createAvatar(pixelArt, {
    ...shapes, size: 16, accessoriesProbability: 0, backgroundColor: [palette.background.slice(1)],
    hairColor: hex('hair', who.hair), skinColor: hex('skin', who.skin), clothingColor: hex('clothing', who.shirt),
    hatColor: hex('clothing', who.hat ?? 'red'), hatProbability: who.hat ? 100 : 0,
    glassesColor: ['202028'], glassesProbability: who.glasses ? 100 : 0, beardProbability: who.beard ? 100 : 0,
    eyesColor: ['4a6a7a'], mouthColor: ['c4504c'],
  }).toString();
  // DiceBear masks a beard by the luminance of the hair colour, which makes dark ones vanish: these show their colour.
  const bearded = svg.replace(/opacity="\.9"( d="[^"]+") fill="[^"]+"/, 'fill="#fff"$1')
    .replace('fill="#fff" fill-opacity=".3" d="M0 0h16v16H0z"', 'fill="#fff" fill-opacity=".1" d="M0 0h16v16H0z"');
  const rgba = new Resvg(bearded).render().pixels;
  return Buffer.from(rgba.filter((_, i) => i % 4 !== 3));
}

function shuffled(list) {
  const left = [...list];
  return list.map(() => left.splice(Math.floor(random() * left.length), 1)[0]);
}

function caption(who) {
  const article = (word) => (/^[aeiou]/.test(word) ? `an ${word}` : `a ${word}`);
  const words = [
    who.hat ? `${article(who.hat)} hat` : `${who.long ? 'long' : 'short'} ${who.hair} hair`,
    `${who.skin} skin`,
    ...(who.beard ? ['a beard'] : []), ...(who.glasses ? ['glasses'] : []),
    `${article(who.shirt)} shirt`,
  ];
  return `a person with ${(chance(0.5) ? shuffled(words) : words).join(', ')}`;
}

const [pictures, captions, seen] = [[], [], new Set()];
while (pictures.length < count) {
  const who = person();
  const picture = draw(who);
  const key = picture.toString('latin1');
  if (seen.has(key)) continue; // no picture twice: a held-out one must not be in the training part
  seen.add(key);
  pictures.push(picture);
  captions.push(caption(who));
}
writeFileSync(join(out, 'pixels.rgb'), Buffer.concat(pictures));
writeFileSync(join(out, 'captions.txt'), captions.join('\n'));
