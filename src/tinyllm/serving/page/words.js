/** The words that the dice draws: all of them stand in the stories that the demo learns from. */

export const NOUNS = `
  fox cat dog rabbit mouse bird frog turtle duck bear lion elephant monkey penguin owl squirrel
  hedgehog dragon butterfly bee baker farmer pirate king queen princess knight wizard astronaut
  clown apple cookie pumpkin cake carrot kite ball drum robot balloon map lantern key box
  blanket hat boot boat train rocket tree bridge castle garden river island moon star song
  secret
`.trim().split(/\s+/);

export const VERBS = `
  jump run dance sing swim hide play fly climb dig build bake share help wander look listen
  whisper laugh smile cry sneeze yawn wave hug kick throw catch juggle draw read write count
  plant grow pick carry fix clean wash cook eat drink sleep rest ride sail float slide swing
  spin march search explore discover rescue visit invite forgive hop
`.trim().split(/\s+/);

export const ADJECTIVES = `
  happy sad brave kind clever silly funny shy curious gentle honest lazy grumpy proud lonely
  sleepy hungry scared excited wise big small tiny huge tall round red blue green yellow golden
  shiny sparkly old new magical strange beautiful broken soft fluffy sticky slippery warm cold
  wet muddy sweet sour crunchy juicy dark quiet noisy loud fast slow hidden sunny snowy
`.trim().split(/\s+/);
