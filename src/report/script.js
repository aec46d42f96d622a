// Shows all times in the reader's zone, and back. The page is complete without it.
(function () {
  "use strict";
  var button = document.getElementById("zone");
  var local = false;
  var times = document.querySelectorAll("time[datetime]");
  function pad(n, width) { return String(n).padStart(width || 2, "0"); }
  function show(element) {
    var d = new Date(element.dateTime);
    if (!local || isNaN(d)) { element.textContent = element.dataset.utc; return; }
    var off = -d.getTimezoneOffset();
    var sign = off < 0 ? "-" : "+";
    off = Math.abs(off);
    element.textContent = d.getFullYear() + "-" + pad(d.getMonth() + 1) + "-" + pad(d.getDate()) + " " + pad(d.getHours()) + ":" +
      pad(d.getMinutes()) + ":" + pad(d.getSeconds()) + "." + pad(d.getMilliseconds(), 3) + " " + sign +
      pad(Math.floor(off / 60)) + ":" + pad(off % 60);
  }
  times.forEach(function (t) { t.dataset.utc = t.textContent; });
  button.hidden = false;
  button.addEventListener("click", function () {
    local = !local;
    button.setAttribute("aria-pressed", String(local));
    button.textContent = local ? "Show times in UTC" : "Show times in my zone";
    times.forEach(show);
  });
})();
