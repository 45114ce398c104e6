// Writes a TypeScript file that holds each board against Grafana's own types, for the compiler to check.
// usage: node types.mjs OUT.ts BOARD.json…
import { readFileSync, writeFileSync } from 'node:fs';

const [out, ...boards] = process.argv.slice(2);
const PANELS = { stat: ['stat', 'Stat'], table: ['table', 'Table'], timeseries: ['timeseries', 'TimeSeries'], 'state-timeline': ['statetimeline', 'StateTimeline'] };
// Options of the types whose plugin publishes no type of its own options' fields: GraphFieldConfig and the like.
const FIELDS = { stat: 'Record<string, never>', table: 'Table.FieldConfig', timeseries: 'TimeSeries.FieldConfig', 'state-timeline': 'StateTimeline.FieldConfig' };

let text = `import type * as dashboard from '@grafana/schema/dist/esm/raw/dashboard/x/dashboard_types.gen.d.ts';
${Object.values(PANELS).map(([dir, name]) => `import type * as ${name} from '@grafana/schema/dist/esm/raw/composable/${dir}/panelcfg/x/${name}PanelCfg_types.gen.d.ts';`).join('\n')}

// JSON has the value of an enum where TypeScript has its name.
type Json<T> = T extends string ? \`\${T}\` : T extends number ? (\`\${T}\` extends \`\${infer N extends number}\` ? N : T)
  : T extends readonly (infer E)[] ? Json<E>[] : T extends object ? { [K in keyof T]: Json<T[K]> } : T;

// What Grafana's Prometheus data source reads; its types are not in @grafana/schema.
interface Target { datasource: dashboard.DataSourceRef; editorMode?: 'code' | 'builder'; expr: string; format?: 'time_series' | 'table' | 'heatmap'; hide?: boolean; instant?: boolean; interval?: string; legendFormat?: string; range?: boolean; refId: string }
interface Link { title: string; url: string; targetBlank?: boolean }
type Transformation =
  | { id: 'merge'; options: Record<string, never> }
  | { id: 'organize'; options: { excludeByName: Record<string, boolean>; includeByName: Record<string, boolean>; indexByName: Record<string, number>; renameByName: Record<string, string> } };
interface Annotation extends Omit<dashboard.AnnotationQuery, 'target'> { target?: { expr: string; interval?: string; refId: string }; tagKeys?: string; textFormat?: string; titleFormat?: string; useValueForTime?: boolean }
interface Variable extends Omit<dashboard.VariableModel, 'current'> { current?: Partial<dashboard.VariableOption>; definition?: string }

type Fields<C> = Omit<dashboard.FieldConfig, 'custom' | 'links'> & { custom?: C; links?: Link[] };
type Properties<C> =
  | { [K in keyof Fields<C>]-?: { id: K; value: Fields<C>[K] } }[Exclude<keyof Fields<C>, 'custom'>]
  | { [K in keyof C & string]-?: { id: \`custom.\${K}\`; value: C[K] } }[keyof C & string];
type PanelOf<T extends string, O, C> = Omit<dashboard.Panel, 'type' | 'options' | 'fieldConfig' | 'targets' | 'transformations'> & {
  type: T; options: O; targets: Target[]; transformations?: Transformation[];
  fieldConfig: { defaults: Fields<C>; overrides: { matcher: { id: 'byName' | 'byRegexp'; options: string }; properties: Properties<C>[] }[] };
};
type Panel = ${Object.entries(PANELS).map(([type, [, name]]) => `\n  | PanelOf<'${type}', ${name}.Options, ${FIELDS[type]}>`).join('')};
type Board = Json<Omit<dashboard.Dashboard, 'panels' | 'annotations' | 'templating'> & { panels: Panel[]; annotations: { list: Annotation[] }; templating: { list: Variable[] } }>;
`;
boards.forEach((path, i) => {
  const { panels, ...rest } = JSON.parse(readFileSync(path, 'utf8'));
  text += `\n// ${path}\nexport const board${i} = ${JSON.stringify({ ...rest, panels: [] })} satisfies Board;\n`;
  for (const panel of panels) {
    const [, name] = PANELS[panel.type] ?? [];
    if (!name) throw new Error(`${path}: no types for ${panel.type}`);
    // One type each, so that the compiler says which field is wrong, not that none of four types fits.
    text += `({ ...${JSON.stringify(panel)} satisfies Json<PanelOf<'${panel.type}', ${name}.Options, ${FIELDS[panel.type]}>> });\n`;
  }
});
writeFileSync(out, text);
