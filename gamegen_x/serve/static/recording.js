// What a player takes home: a picture, or a film of what they see, both at a size for eyes.

const SCALE_TO = 512;

export function savePicture(canvas, name) {
  enlarged(canvas).toBlob((blob) => download(blob, `${name}.png`), "image/png");
}

/** A film that goes on until `stop`; null where the browser cannot make one. */
export function startFilm(canvas, name) {
  const kind = ["video/mp4", "video/webm"].find((each) => window.MediaRecorder?.isTypeSupported(each));
  if (kind === undefined) return null;
  const large = enlarged(canvas);
  const context = large.getContext("2d");
  const timer = setInterval(() => {
    context.imageSmoothingEnabled = false;
    context.drawImage(canvas, 0, 0, large.width, large.height);
  }, 1000 / 24);
  const parts = [];
  const recorder = new MediaRecorder(large.captureStream(24), { mimeType: kind, videoBitsPerSecond: 4e6 });
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.onstop = () => {
    clearInterval(timer);
    download(new Blob(parts, { type: kind }), `${name}.${kind.split("/")[1]}`);
  };
  recorder.start(1000);
  return { stop: () => recorder.stop() };
}

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function enlarged(canvas) {
  const large = document.createElement("canvas");
  const scale = Math.max(1, Math.floor(SCALE_TO / canvas.width));
  large.width = canvas.width * scale;
  large.height = canvas.height * scale;
  const context = large.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, 0, 0, large.width, large.height);
  return large;
}
