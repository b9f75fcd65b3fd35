// The video, by its own clock. Players count from different zeros where a file starts late, so the
// first frame that is shown says where zero is; afterwards the frame on screen says what time it is.

class Player {
  constructor(clip, told) {
    this.clip = clip;
    this.told = told;
    this.offset = null;
    this.wanted = null;
    this.time = clip.start;
    this.broken = false;
    this.video = el("video", { muted: true, playsInline: true, preload: "auto", tabIndex: -1,
      "aria-label": `Video ${clip.id}` });
    this.video.addEventListener("error", () => this.fail());
    this.video.addEventListener("pause", () => this.told());
    this.video.addEventListener("play", () => this.told());
    this.video.addEventListener("ended", () => this.told());
    this.exact = "requestVideoFrameCallback" in this.video;
    if (this.exact) this.watch();
    else this.video.addEventListener("timeupdate", () => this.shown(this.video.currentTime));
    this.video.addEventListener("loadeddata", () => {
      // A frame that was never announced: take the player's word for it.
      setTimeout(() => { if (this.offset === null && !this.closed) this.shown(this.video.currentTime); }, 400);
    });
    // Nor is every frame after a seek: then the player's word counts too.
    this.video.addEventListener("seeked", () => {
      setTimeout(() => { if (this.seeking && !this.video.seeking) this.shown(this.video.currentTime); }, 60);
    });
    this.video.src = clip.video.source.split("/").map(encodeURIComponent).join("/");
  }

  watch() {
    this.video.requestVideoFrameCallback((_, frame) => {
      if (this.closed) return;
      this.shown(frame.mediaTime);
      this.watch();
    });
  }

  shown(mediaTime) {
    if (this.offset === null) {
      const offset = this.clip.start - mediaTime;
      this.offset = Math.abs(offset) < 0.02 ? 0 : offset;
      // Not from within: a frame that comes at once would not be announced.
      if (this.wanted !== null) {
        setTimeout(() => { if (this.wanted !== null && !this.closed) this.seek(this.wanted); });
        return;
      }
    }
    this.presented = mediaTime + this.offset;
    // A pause at a wanted moment: the frame shown is the nearest one there is.
    const settled = this.video.paused && this.wanted !== null && Math.abs(this.presented - this.wanted) < 0.3;
    if (!settled) this.wanted = this.seeking ? this.wanted : null;
    this.time = this.wanted ?? this.presented;
    this.seeking = false;
    this.told();
  }

  seek(time) {
    this.wanted = clamp(time, this.clip.start, this.clip.end);
    this.time = this.wanted;
    if (!this.broken && this.offset !== null) {
      this.seeking = true;
      // Half a millisecond on: times are rounded, and the frame before ends where this one begins.
      this.video.currentTime = Math.max(0, this.wanted - this.offset + 0.0005);
    }
    this.told();
  }

  get playing() {
    return !this.video.paused && !this.video.ended;
  }

  toggle() {
    if (this.broken) return;
    if (this.playing) this.video.pause();
    else this.start();
  }

  start() {
    this.wanted = null;
    this.video.play().catch(() => this.told());
  }

  pause() {
    if (this.playing) this.video.pause();
  }

  fail() {
    this.broken = true;
    const missing = this.video.error?.code === 4;
    this.trouble = `The video file ${this.clip.video.source} ` + (missing
      ? "is not there, or is none that this browser plays. It is looked for beside this page, at that path."
      : "is damaged: it could not be decoded.")
      + " Boxes and labels can still be read and corrected.";
    this.told();
  }

  close() {
    this.closed = true;
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
  }
}
