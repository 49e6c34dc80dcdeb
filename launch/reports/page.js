// Draws the page's figures, in the colours of a light or dark page, and copies the command that exports a trial.
(() => {
  "use strict";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const plots = [...document.querySelectorAll(".plot")];
  const told = document.getElementById("told");
  const [said, command] = [told.querySelector("span"), told.querySelector("input")];

  function template() {
    const css = getComputedStyle(document.documentElement);
    const colour = (name) => css.getPropertyValue(`--${name}`).trim();
    const axis = { gridcolor: colour("line"), linecolor: colour("line"), zerolinecolor: colour("muted") };
    return {
      layout: {
        font: { color: colour("ink"), family: "system-ui, sans-serif", size: 12 },
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("line"), font: { color: colour("ink") }, align: "left" },
        modebar: { color: colour("muted"), activecolor: colour("ink"), bgcolor: "rgba(0,0,0,0)" },
        xaxis: axis,
        yaxis: axis,
      },
    };
  }

  // A page that is opened from a file may not be allowed to use the clipboard: then the field holds the command.
  async function copied(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      command.select();
      return document.execCommand("copy");
    }
  }

  // Each run has its own command; a trace says by its number in "meta" of which run its trials are.
  const commands = JSON.parse(document.body.dataset.commands);

  async function give(trial, run) {
    command.value = `${commands[run]} --select ${trial}`;
    told.hidden = false;
    said.textContent = "";
    said.textContent = (await copied(command.value)) ? "Copied:" : "Copy this:";
  }

  function draw(plot) {
    const figure = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
    const narrow = plot.clientWidth < 600;
    const layout = { ...figure.layout, template: template(), autosize: true };
    if (narrow && layout.coloraxis) layout.coloraxis = { ...layout.coloraxis, showscale: false };
    // No server: plotly's bar would offer to send the figure, and so the run, to one.
    const config = { responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover",
      plotlyServerURL: "", modeBarButtonsToRemove: ["sendChartToCloud", "select2d", "lasso2d", "autoScale2d"] };
    Plotly.newPlot(plot, figure.data, layout, config);
    if (plot.hasAttribute("data-exports")) {
      plot.on("plotly_click", (event) => {
        const { customdata: trial, data } = event.points[0];
        if (trial !== undefined) give(trial, data.meta ?? 0);
      });
    }
  }

  told.querySelector("button").addEventListener("click", () => { told.hidden = true; });
  dark.addEventListener("change", () => {
    for (const plot of plots.filter((one) => !waiting.has(one))) Plotly.relayout(plot, { template: template() });
  });
  // A figure is drawn when it comes near the window: the first ones are there at once, however many follow.
  const waiting = new Set(plots);
  const reached = (found) => {
    for (const plot of found.filter((one) => waiting.delete(one))) {
      near.unobserve(plot);
      draw(plot);
    }
    document.body.dataset.drawn = `${plots.length - waiting.size} in ${Math.round(performance.now())} ms`;
  };
  const near = new IntersectionObserver(
    (entries) => reached(entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target)),
    { rootMargin: "300px" },
  );
  // Plotly takes longest to load: the text is painted before.
  requestAnimationFrame(() => setTimeout(() => {
    const plotly = document.createElement("script");
    plotly.textContent = document.getElementById("plotly").textContent;
    document.head.append(plotly);
    plots.forEach((plot) => near.observe(plot));
    addEventListener("beforeprint", () => reached(plots));
  }));
})();
