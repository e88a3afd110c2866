// What has arrived of a log and is not in the window yet.

/** bytes that may wait for the next picture; of more, only the last are shown */
const MOST_WAITING = 512 * 1024;

/** Pieces that follow one another, MOST_WAITING bytes of them at most. */
export class Waiting {
  pieces = [];
  bytes = 0;

  add(piece) {
    this.pieces.push(piece);
    this.bytes += piece.bytes?.length ?? 0;
    while (this.bytes > MOST_WAITING && this.pieces.length > 1) {
      this.bytes -= this.pieces.shift().bytes?.length ?? 0;
    }
  }
}
